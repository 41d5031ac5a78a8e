package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// TestBenchOverTLSWithPlainControlPlane uses TLS only for the streams.
func TestBenchOverTLSWithPlainControlPlane(t *testing.T) {
	t.Parallel()
	certificate := testbed.NewCertificate(t)

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

// TestBenchTransports runs every kind of benchmark over every transport.
func TestBenchTransports(t *testing.T) {
	certificate := testbed.NewCertificate(t)
	plain := pealdtest.Start(t)
	secure := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.SSE.TLS = daemon.TLS{CertFile: certificate.CertFile, KeyFile: certificate.KeyFile}
	})

	for name, transport := range map[string][]string{
		"h2c": {"--addr", plain.GRPC, "--url", "http://" + plain.SSE + "/events", "--http2"},
		"TLS": {"--addr", secure.GRPC, "--url", "https://" + secure.SSE + "/events", "--stream-ca-file", certificate.CertFile},
		"h2":  {"--addr", secure.GRPC, "--url", "https://" + secure.SSE + "/events", "--stream-ca-file", certificate.CertFile, "--http2"},
	} {
		for kind, args := range map[string][]string{
			"measure":  {"--clients", "10", "--burst", "10"},
			"poll":     {"--clients", "10", "--burst", "10", "--poll"},
			"portable": {"--clients", "10", "--burst", "10", "--portable"},
			"chaos":    {"--clients", "10", "--rate", "50", "--duration", "1s", "--life", "200ms", "--chaos"},
			"resume":   {"--clients", "10", "--users", "5", "--resume", "3"},
		} {
			if name == "h2c" && kind != "measure" && kind != "poll" || name == "TLS" && kind == "portable" {
				continue // h2 has the same code with TLS, and takes as long
			}
			t.Run(name+" "+kind, func(t *testing.T) { // one at a time, since a broadcast reaches all
				var stdout, stderr bytes.Buffer
				status := run(t.Context(), slices.Concat([]string{"bench"}, transport, args), func(string) string { return "" }, nil, &stdout, &stderr)
				if status != 0 {
					t.Errorf("status %d\n%s%s", status, &stdout, &stderr)
				}
			})
		}
	}
}

func TestBenchStreamsPerConnection(t *testing.T) {
	t.Parallel()
	d := pealdtest.Start(t)
	for want, more := range map[string][]string{
		"": {"--http2"},
		"streams-per-connection: 10; want 1, or HTTP/2 (http2)": nil,
	} {
		var stdout, stderr bytes.Buffer
		args := append([]string{"bench", "--addr", d.GRPC, "--url", "http://" + d.SSE + "/events", "--clients", "25", "--burst", "2", "--streams-per-connection", "10"}, more...)
		status := run(t.Context(), args, func(string) string { return "" }, nil, &stdout, &stderr)
		if (status == 0) != (want == "") || !strings.Contains(stderr.String(), want) {
			t.Errorf("with %s: status %d\n%s%s", more, status, &stdout, &stderr)
		}
	}
}
