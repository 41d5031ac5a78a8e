package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/pealdtest"
)

// TestBenchOverTLSWithPlainControlPlane uses TLS for the streams only.
func TestBenchOverTLSWithPlainControlPlane(t *testing.T) {
	t.Parallel()
	certificate := pealdtest.NewCertificate(t)

	d := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.SSE.TLS = daemon.TLS{CertFile: certificate.CertFile, KeyFile: certificate.KeyFile}
	})

	for ca, want := range map[string]string{
		certificate.CertFile: "",
		"/nonexistent":       "--stream-ca-file: open /nonexistent",
	} {
		var stdout, stderr bytes.Buffer
		args := []string{"bench", "--addr", d.GRPC, "--url", "https://" + d.SSE + "/events", "--clients", "3", "--burst", "2", "--stream-ca-file", ca}
		status := run(t.Context(), args, func(string) string { return "" }, nil, &stdout, &stderr)
		if (status == 0) != (want == "") || !strings.Contains(stderr.String(), want) {
			t.Errorf("with %s: status %d\n%s%s", ca, status, &stdout, &stderr)
		}
	}
}
