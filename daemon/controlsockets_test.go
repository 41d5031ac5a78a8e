package daemon_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
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
	"github.com/peald/peald/internal/testbed"
)

// socketDir returns a directory for socket files. The path of t.TempDir is too
// long on some systems.
func socketDir(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("files have no permissions on Windows")
	}
	dir, err := os.MkdirTemp("", "peald") //nolint:usetesting // See above.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// overSocket returns an HTTP client whose requests all go to a socket file.
func overSocket(t *testing.T, path string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestControlPlaneOnSocketFiles(t *testing.T) {
	dir := socketDir(t)
	grpcPath, restPath := filepath.Join(dir, "grpc.sock"), filepath.Join(dir, "rest.sock")
	log := &testbed.Log{}
	d := startLogging(t, log, func(cfg *daemon.Config) {
		cfg.GRPC.Addr, cfg.GRPC.SocketMode = "unix:"+grpcPath, 0o600
		cfg.REST.Addr = "unix://" + restPath
		cfg.Auth.JWT.HMACSecret = strings.Repeat("k", 32)
	})
	if d.GRPC != "unix:"+grpcPath || d.REST != "unix:"+restPath {
		t.Errorf("addresses are %q and %q", d.GRPC, d.REST)
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
			t.Errorf("the log doesn't contain %q:\n%s", part, log)
		}
	}

	d.end()
	if err := <-d.done; err != nil {
		t.Error(err)
	}

	for _, path := range []string{grpcPath, restPath} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s still exists: %v", path, err)
		}
	}
}
