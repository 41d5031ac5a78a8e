package clients_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/testbed"
)

const (
	// retry is the reconnection time that the daemons send, plus or minus 25%.
	retry = 100 * time.Millisecond

	// streamsPerUser allows a client to reconnect before its last stream is closed.
	streamsPerUser = 2
)

// application handles the daemons' auth callbacks. It admits the user in the
// stream's URL.
type application struct {
	URL string

	mu       sync.Mutex
	statuses map[string]int // the statuses for users that aren't admitted
}

func newApplication(t *testing.T) *application {
	t.Helper()

	a := &application{statuses: map[string]int{}}
	server := httptest.NewServer(a)
	a.URL = server.URL

	t.Cleanup(server.Close)

	return a
}

func (a *application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var callback struct {
		Query map[string][]string `json:"query"`
	}

	if err := json.NewDecoder(r.Body).Decode(&callback); err != nil || len(callback.Query["user"]) != 1 {
		w.WriteHeader(http.StatusBadRequest)

		return
	}

	user := callback.Query["user"][0]

	a.mu.Lock()
	status := a.statuses[user]
	a.mu.Unlock()

	if status != 0 {
		w.WriteHeader(status)

		return
	}

	if err := json.NewEncoder(w).Encode(map[string]any{"user_id": user, "topics": []string{">"}}); err != nil {
		panic(err)
	}
}

// answer sets the callback's status for new streams of a user; 0 admits them.
func (a *application) answer(user string, status int) {
	a.mu.Lock()
	defer a.mu.Unlock()

	a.statuses[user] = status
}

// configure configures the daemons that run in this process.
func (a *application) configure(cfg *daemon.Config) {
	cfg.Auth.JWT.HMACSecret = ""
	cfg.Auth.CallbackURL, cfg.Auth.CallbackCache, cfg.Auth.CallbackTimeout = a.URL, 0, patience
	cfg.SSE.Retry, cfg.SSE.MaxConnectionsPerUser = retry, streamsPerUser
	cfg.SSE.AllowedOrigins = []string{"*"}
}

// process is a daemon that runs in a separate process. Its history survives
// restarts.
type process struct {
	daemon.Addresses

	program string
	args    []string
	cmd     *exec.Cmd
	log     testbed.Log
}

func startProcess(t *testing.T, program string, app *application) *process {
	t.Helper()

	addrs := testbed.FreeAddrs(t, 4)
	p := &process{
		program:   program,
		Addresses: daemon.Addresses{SSE: addrs[0], GRPC: addrs[1], REST: addrs[2]},
		args: []string{
			"--sse.addr", addrs[0], "--grpc.addr", addrs[1], "--rest.addr", addrs[2],
			"--sse.retry", retry.String(), "--auth.callback_url", app.URL, "--auth.callback_cache", "0s",
			"--auth.callback_timeout", patience.String(),
			"--sse.allowed_origins", "*",
			"--cluster.mode", "embedded", "--cluster.addr", addrs[3], "--cluster.secret", "only for tests",
			"--cluster.dir", filepath.Join(t.TempDir(), "log"), "--cluster.sync=false",
		},
	}

	t.Cleanup(func() {
		p.kill()

		if t.Failed() {
			t.Logf("the daemon's log:\n%s", &p.log)
		}
	})
	p.start(t)

	return p
}

// start starts the process and waits until it is ready.
func (p *process) start(t *testing.T) {
	t.Helper()

	p.cmd = exec.Command(p.program, p.args...)
	p.cmd.Dir = t.TempDir()
	p.cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1")
	p.cmd.Stderr = &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}

	if !testbed.Eventually(patience, func() bool {
		response, err := http.Get("http://" + p.REST + "/readyz")
		if err != nil {
			return false
		}

		_ = response.Body.Close()

		return response.StatusCode == http.StatusOK
	}) {
		t.Fatalf("the daemon is not ready; its log:\n%s", &p.log)
	}
}

// kill kills the process with SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// control returns a client for the control plane at addr.
func control(t *testing.T, addr string) pealv1.ControlServiceClient {
	t.Helper()

	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = conn.Close() })

	return pealv1.NewControlServiceClient(conn)
}

// send sends data to a stream's user.
func send(t *testing.T, to pealv1.ControlServiceClient, s *stream, data string) {
	t.Helper()

	_, err := to.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: s.user, Data: data}, grpc.WaitForReady(true))
	if err != nil {
		t.Errorf("send to %s: %v", s.user, err)
	}
}
