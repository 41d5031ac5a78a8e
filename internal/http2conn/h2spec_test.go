package http2conn_test

import (
	"net"
	"os/exec"
	"testing"

	"github.com/peald/peald/internal/http2conn"
)

// TestH2spec runs h2spec (github.com/summerwind/h2spec) if it is installed. The
// same cases, as RFC 9113 changes them, are in TestConformance.
func TestH2spec(t *testing.T) {
	program, err := exec.LookPath("h2spec")
	if err != nil {
		t.Skip("h2spec isn't installed")
	}

	host, port, err := net.SplitHostPort(serve(t, http2conn.Config{}))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, "--strict", "--path", "/100", "--host", host, "--port", port, "--timeout", "2").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
