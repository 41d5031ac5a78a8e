package clients_test

import (
	"bufio"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/peald/peald/internal/testbed"
)

// run starts a driver, which opens all streams, and reads its reports until stop
// is called or the test ends.
func run(t *testing.T, command []string, streams []*stream) (stop func()) {
	t.Helper()

	args := command[1:]
	for _, s := range streams {
		args = append(args, s.name+"="+s.url())
	}

	cmd := exec.Command(command[0], args...)
	cmd.Dir = filepath.Dir(command[0])
	// Drivers that start child processes kill them on SIGTERM.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}

	var stderr testbed.Log

	cmd.Stderr = &stderr

	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}

	if err != nil {
		t.Errorf("start %s: %v", strings.Join(command, " "), err)
		exited(streams)

		return func() {}
	}

	read := make(chan struct{})

	stop = sync.OnceFunc(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-read
		_ = cmd.Wait()

		if text := stderr.String(); text != "" && t.Failed() {
			t.Logf("the driver's stderr:\n%s", text)
		}
	})
	t.Cleanup(stop)

	byName := map[string]*stream{}
	for _, s := range streams {
		byName[s.name] = s
	}

	go func() {
		defer close(read)

		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			report(byName, lines.Bytes())
		}

		exited(streams)
	}()

	return stop
}

// exited marks all streams of a driver that has exited as ended.
func exited(streams []*stream) {
	for _, s := range streams {
		s.change(func() {
			if s.ended == "" {
				s.ended = "the driver exited"
			}
		})
	}
}

// report processes a line printed by a driver.
func report(streams map[string]*stream, text []byte) {
	var line struct {
		Stream, Type, ID, MD5, Ended string
		Bytes                        int
		Data                         *string // set by pages, instead of MD5 and Bytes
	}

	if json.Unmarshal(text, &line) != nil || streams[line.Stream] == nil {
		return
	}

	if line.Data != nil {
		line.MD5, line.Bytes = md5Of(*line.Data), len(*line.Data)
	}

	s := streams[line.Stream]

	s.change(func() {
		switch {
		case line.Ended != "":
			s.ended = line.Ended
		default:
			s.events = append(s.events, event{typ: line.Type, id: line.ID, bytes: line.Bytes, md5: line.MD5, at: time.Now()})
		}
	})
}

func md5Of(data string) string {
	sum := md5.Sum([]byte(data))

	return hex.EncodeToString(sum[:])
}

func asErrno(err error, number *syscall.Errno) bool { return errors.As(err, number) }

// absolute returns the absolute path of a file in testdata.
func absolute(t *testing.T, parts ...string) string {
	t.Helper()

	path, err := filepath.Abs(filepath.Join(append([]string{"testdata"}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}

	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}

	return path
}
