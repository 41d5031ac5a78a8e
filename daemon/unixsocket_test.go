package daemon_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

// folder is one for socket files: a test's own has too long a name on some
// systems.
func folder(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no permissions of files here")
	}
	dir, err := os.MkdirTemp("", "peald") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// overSocket is an HTTP client whose every request goes to a socket file.
func overSocket(t *testing.T, path string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestControlPlaneOnSocketFiles(t *testing.T) {
	dir := folder(t)
	grpcPath, restPath := filepath.Join(dir, "grpc.sock"), filepath.Join(dir, "rest.sock")
	log := &pealdtest.Log{}
	d := startLogging(t, log, func(cfg *daemon.Config) {
		cfg.GRPC.Addr, cfg.GRPC.SocketMode = "unix:"+grpcPath, 0o600
		cfg.REST.Addr = "unix://" + restPath
		cfg.Auth.JWT.HMACSecret = strings.Repeat("k", 32)
	})
	if d.GRPC != "unix:"+grpcPath || d.REST != "unix:"+restPath {
		t.Errorf("the addresses are %q and %q", d.GRPC, d.REST)
	}
	for path, want := range map[string]fs.FileMode{grpcPath: 0o600, restPath: 0o660} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	conn, err := grpc.NewClient(d.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := pealv1.NewControlServiceClient(conn).CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: "alice"}); err != nil {
		t.Errorf("gRPC: %v", err)
	}
	resp, err := overSocket(t, restPath).Post("http://localhost/v1/tokens", "application/json", strings.NewReader(`{"userId":"bob"}`))
	if err != nil {
		t.Fatalf("REST: %v", err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("REST: %s %s", resp.Status, body)
	}
	for _, part := range []string{"grpc=unix:" + grpcPath, "rest=unix:" + restPath, "peer=unix user=alice", "peer=unix user=bob"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log lacks %q:\n%s", part, log)
		}
	}
	d.end()
	if err := <-d.done; err != nil {
		t.Error(err)
	}
	for _, path := range []string{grpcPath, restPath} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left behind: %v", path, err)
		}
	}
}

// tryOn runs a daemon with its gRPC listener at path until it accepts.
func tryOn(t *testing.T, path string) error {
	t.Helper()
	cfg := onFreePorts()
	cfg.GRPC.Addr = "unix:" + path
	ctx, end := context.WithCancel(t.Context())
	defer end()
	return daemon.Run(ctx, cfg, daemon.Options{
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Ready:  func(daemon.Addresses) error { end(); return nil },
	})
}

func TestSocketOfADeadProcessIsReplaced(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	if err := tryOn(t, path); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWhatIsInUseIsLeftAlone(t *testing.T) {
	dir := folder(t)
	living := filepath.Join(dir, "living")
	listener, err := net.Listen("unix", living)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), link); err != nil {
		t.Fatal(err)
	}
	datagrams := filepath.Join(dir, "datagrams")
	other, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: datagrams})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for path, want := range map[string]string{
		living:                          "another process listens there",
		file:                            "no socket, and it is left alone",
		link:                            "no socket, and it is left alone",
		datagrams:                       "wrong type for socket",
		dir:                             "no socket, and it is left alone",
		filepath.Join(dir, "none", "s"): "no such file",
	} {
		before, _ := os.Lstat(path)
		err := tryOn(t, path)
		if err == nil || !strings.HasPrefix(err.Error(), "grpc.addr unix:"+path+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
		if after, err := os.Lstat(path); before != nil && (err != nil || !os.SameFile(before, after)) {
			t.Errorf("%s is no longer what it was: %v", path, err)
		}
	}
}

// Whoever starts while this one ends may have put a socket in the place.
func TestAnothersSocketOutlivesTheDaemon(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	d := start(t, func(cfg *daemon.Config) { cfg.GRPC.Addr = "unix:" + path })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	d.end()
	if err := <-d.done; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("another's socket is gone: %v", err)
	}
}
