package docs_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peald/peald/internal/testbed"
)

const (
	// patience limits how long a command may take.
	patience = 2 * time.Minute

	ready = "http://127.0.0.1:9091/readyz"
)

// TestCommands runs the commands of each page in a shell, in a directory that
// looks like a clone.
func TestCommands(t *testing.T) {
	if os.Getenv(isolated) == "" {
		testbed.Missingf(t, "the system allows no network namespace, which makes the documented ports free")
	}

	for _, program := range []string{"bash", "curl", "make", "openssl"} {
		testbed.Program(t, program)
	}

	clone := newClone(t)

	for _, name := range pages(t) {
		commands, err := commandsOf(read(t, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}

		if len(commands) > 0 {
			t.Run(name, func(t *testing.T) { runPage(t, clone, name, commands) })
		}
	}
}

// newClone returns a directory with the project's files, and with both programs in
// bin. Only bin is writable.
func newClone(t *testing.T) string {
	t.Helper()

	from, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}

	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}

	clone := t.TempDir()

	for _, entry := range entries {
		if entry.Name() == "bin" || entry.Name() == ".git" {
			continue
		}

		if err := os.Symlink(filepath.Join(from, entry.Name()), filepath.Join(clone, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}

	// With the flags of the tests, packages that are compiled for them are reused.
	command := strings.Join(slices.Concat([]string{"go", "build", "-ldflags=-w"}, testbed.BuildFlags(), []string{"-o", "bin/"}), " ")
	build := exec.CommandContext(t.Context(), "make", "build", "BUILD="+command)
	build.Dir = clone

	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}

	return clone
}

// shell is the shell in which the commands on a page run.
type shell struct {
	stdin io.Writer
	dir   string // for outputs, and instead of /tmp
	count int

	// The epoch of the ids that the page shows, and that of the daemon.
	shownEpoch, epoch string
}

// run is a command that the shell runs or has run.
type run struct {
	command

	output, status string // files
	readyFile      string // the one that the command writes; empty if it writes none
}

func runPage(t *testing.T, clone, name string, commands []command) {
	t.Helper()

	s := newShell(t, clone)

	var background []run

	for _, c := range commands {
		r := s.start(t, c)

		if c.background {
			background = append(background, r)
			r.waitForFirstOutput(t, name)
		} else {
			r.wait(t, name)
		}

		if t.Failed() {
			break
		}

		s.learnEpoch(r)
	}

	for _, r := range background {
		if !t.Failed() && !eventually(func() bool { return !r.lacks(r.want) }) {
			r.fail(t, name)
		}
	}
}

func newShell(t *testing.T, clone string) *shell {
	t.Helper()

	// Where output isn't a terminal, curl would report progress.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".curlrc"), []byte("no-progress-meter\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command("bash", "--noprofile", "--norc")
	cmd.Dir = clone
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "PEALD_") || strings.HasPrefix(variable, "PEALCTL_")
	})

	cmd.Env = append(cmd.Env, "CURL_HOME="+dir)

	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})

	return &shell{stdin: stdin, dir: dir}
}

// start passes a command to the shell.
func (s *shell) start(t *testing.T, c command) run {
	t.Helper()

	s.count++
	file := filepath.Join(s.dir, fmt.Sprintf("output-%d", s.count))
	r := run{command: c, output: file, status: file + ".status"}

	end := fmt.Sprintf("; echo $? >%[1]s.new; mv %[1]s.new %[1]s", r.status)
	if c.background {
		end = " &"
	}

	text := strings.ReplaceAll(c.text, "/tmp/", s.dir+"/")
	if m := regexp.MustCompile(`--ready-file (\S+)`).FindStringSubmatch(text); m != nil {
		r.readyFile = m[1]
	}

	if s.epoch != "" {
		text = strings.ReplaceAll(text, s.shownEpoch+"-", s.epoch+"-")
	}

	if _, err := fmt.Fprintf(s.stdin, "{ %s\n} </dev/null >%s 2>&1%s\n", text, r.output, end); err != nil {
		t.Fatal(err)
	}

	return r
}

// learnEpoch remembers the epoch of the first id on a page, so that commands can
// use ids that the page shows.
func (s *shell) learnEpoch(r run) {
	id := regexp.MustCompile(`\b([0-9a-z]{6,})-\d+\b`)
	shown := id.FindStringSubmatch(strings.Join(r.want, "\n"))

	have := id.FindStringSubmatch(r.shown())
	if s.epoch == "" && shown != nil && have != nil {
		s.shownEpoch, s.epoch = shown[1], have[1]
	}
}

// wait waits for a command to end. If the page shows output, that output must have
// appeared; otherwise the command must have succeeded.
func (r run) wait(t *testing.T, name string) {
	t.Helper()

	var status string

	ended := eventually(func() bool {
		text, err := os.ReadFile(r.status)
		status = strings.TrimSpace(string(text))

		return err == nil
	})

	switch {
	case !ended:
		t.Errorf("%s:%d: %s: doesn't end", name, r.line, r.text)
	case len(r.want) == 0 && status != "0":
		t.Errorf("%s:%d: %s: status %s\n%s", name, r.line, r.text, status, r.shown())
	case r.lacks(r.want):
		r.fail(t, name)
	}
}

// waitForFirstOutput waits for the first line of a command's output, or if the
// page shows none, until a daemon is ready.
func (r run) waitForFirstOutput(t *testing.T, name string) {
	t.Helper()

	first := r.want[:min(1, len(r.want))]

	if !eventually(func() bool { return !r.lacks(first) && (len(first) > 0 || r.isReady()) }) {
		r.fail(t, name)
	}
}

func (r run) shown() string {
	text, _ := os.ReadFile(r.output)

	return string(text)
}

func (r run) lacks(want []string) bool {
	_, missing := missingFrom(r.shown(), want)

	return missing
}

func (r run) fail(t *testing.T, name string) {
	t.Helper()

	line, _ := missingFrom(r.shown(), r.want)
	t.Errorf("%s:%d: %s: the output lacks %q:\n%s", name, r.line, r.text, line, r.shown())
}

// eventually reports whether a condition holds in time. It polls seldom, because programs
// that are being built need the CPU.
func eventually(condition func() bool) bool {
	return testbed.Poll(patience, 100*time.Millisecond, condition)
}

// isReady reports whether a daemon that the command starts is ready.
func (r run) isReady() bool {
	if r.readyFile != "" {
		if _, err := os.Stat(r.readyFile); err != nil {
			return false
		}
	}

	resp, err := http.Get(ready)
	if err != nil {
		return false
	}
	defer resp.Body.Close()

	return resp.StatusCode == http.StatusOK
}
