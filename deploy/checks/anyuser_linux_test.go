package checks_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAnyUser runs a cluster node under the restrictions of some container
// platforms: its user has no name and no home directory, and can write only to
// a volume, through a group.
func TestAnyUser(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root can run a process as another user")
		}

		t.Skip("only root can run a process as another user")
	}

	const user = 1_000_660_000

	programs := built(t)

	for name, test := range map[string]struct {
		group  int // of the volume
		groups []uint32
	}{
		"OpenShift":                         {user, []uint32{user}},
		"any user, with the image's volume": {0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			daemon, volume := filepath.Join(folder, "peald"), filepath.Join(folder, "volume")

			run(t, "cp", filepath.Join(programs, "peald"), daemon)
			makeVolume(t, volume, test.group)

			cmd := exec.CommandContext(t.Context(), daemon, "--sse.addr=127.0.0.1:0", "--grpc.addr=127.0.0.1:0", "--rest.addr=127.0.0.1:0",
				"--ready-file="+volume+"/ready.json", "--cluster.mode=embedded", "--cluster.dir="+volume+"/log")
			cmd.Dir, cmd.Env, cmd.Stderr = "/", []string{"PATH=/nowhere"}, t.Output()
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Credential: &syscall.Credential{Uid: user, Gid: 0, Groups: test.groups},
				Pdeathsig:  syscall.SIGKILL,
			}

			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}

			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()

			broadcast(t, filepath.Join(volume, "ready.json"), ended)

			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}

			if err := <-ended; err != nil {
				t.Errorf("the daemon exited: %v", err)
			}

			if info, err := os.Stat(filepath.Join(volume, "log", "lock")); err != nil || info.Sys().(*syscall.Stat_t).Uid != user {
				t.Errorf("the log's lock file doesn't belong to the user: %v", err)
			}
		})
	}
}

// makeVolume creates a directory that members of the group can write to, and
// makes its parents accessible to every user.
func makeVolume(t *testing.T, path string, group int) {
	t.Helper()

	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}

	if err := os.Chown(path, 0, group); err != nil {
		t.Fatal(err)
	}

	if err := os.Chmod(path, 0o770|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}

	for parent := filepath.Dir(path); parent != os.TempDir(); parent = filepath.Dir(parent) {
		if err := os.Chmod(parent, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// broadcast waits for the daemon's ready file and publishes a broadcast through
// the REST API, retrying until it succeeds.
func broadcast(t *testing.T, readyFile string, ended <-chan error) {
	t.Helper()

	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()

	for deadline := time.After(2 * time.Minute); ; {
		var addresses struct{ REST string }

		if content, err := os.ReadFile(readyFile); err == nil && json.Unmarshal(content, &addresses) == nil {
			resp, err := http.Post("http://"+addresses.REST+"/v1/broadcast", "application/json", strings.NewReader(`{"data":"hi"}`))
			if err == nil {
				_ = resp.Body.Close()

				if resp.StatusCode == http.StatusOK {
					return
				}
			}
		}

		select {
		case <-tick.C:
		case err := <-ended:
			t.Fatalf("the daemon exited: %v", err)
		case <-deadline:
			t.Fatal("publishing still fails after 2 minutes")
		}
	}
}
