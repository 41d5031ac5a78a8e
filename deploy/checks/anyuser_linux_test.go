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

// TestAnyUser runs a node of a cluster as a container may have to: as a user
// without a name and a home, who may write to nothing but a volume, and to that
// only by a group.
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
		owner  int // the volume's group
		groups []uint32
	}{
		"OpenShift":                      {user, []uint32{user}},
		"any user of the image's volume": {0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			daemon, volume := filepath.Join(folder, "peald"), filepath.Join(folder, "volume")

			run(t, "cp", filepath.Join(programs, "peald"), daemon)
			makeVolume(t, volume, test.owner)

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
				t.Errorf("the daemon ended with %v", err)
			}

			if info, err := os.Stat(filepath.Join(volume, "log", "lock")); err != nil || info.Sys().(*syscall.Stat_t).Uid != user {
				t.Errorf("the log isn't the user's: %v", err)
			}
		})
	}
}

// makeVolume makes a folder that the members of a group may write to. Others
// may enter the folders above it.
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

	for above := filepath.Dir(path); above != os.TempDir(); above = filepath.Dir(above) {
		if err := os.Chmod(above, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// broadcast publishes through the REST API of a daemon that writes this ready
// file, as soon as the daemon is ready.
func broadcast(t *testing.T, readyFile string, ended <-chan error) {
	t.Helper()

	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()

	for late := time.After(2 * time.Minute); ; {
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
			t.Fatalf("the daemon has ended: %v", err)
		case <-late:
			t.Fatal("nothing can be published")
		}
	}
}
