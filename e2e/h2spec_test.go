package e2e_test

import (
	"net"
	"os/exec"
	"regexp"
	"testing"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// TestH2spec runs h2spec (github.com/summerwind/h2spec) against a daemon with TLS and
// one without, if it is installed. The daemon may answer 404 before it gets what a
// case sends after the header, so a case fails only if it does in every run.
func TestH2spec(t *testing.T) {
	t.Parallel()

	program, err := exec.LookPath("h2spec")
	if err != nil {
		t.Skip("h2spec isn't installed")
	}
	certificate := testbed.NewCertificate(t)

	for name, test := range map[string]struct {
		tls     daemon.TLS
		args    []string
		allowed string // to fail
	}{
		"TLS": {tls: daemon.TLS{CertFile: certificate.CertFile, KeyFile: certificate.KeyFile}, args: []string{"--tls", "--insecure"}},
		// Without TLS, what isn't HTTP/2 is HTTP/1.1, and gets status 400.
		"plain": {allowed: "Sends invalid connection preface"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			d := pealdtest.Start(t, func(cfg *daemon.Config) { cfg.SSE.TLS = test.tls })
			host, port, err := net.SplitHostPort(d.SSE)
			if err != nil {
				t.Fatal(err)
			}
			args := append([]string{"--strict", "--path", "/nothing", "--host", host, "--port", port, "--timeout", "3"}, test.args...)

			const runs = 8
			failures := map[string]int{}
			for range runs {
				out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
				if err == nil {
					return
				}
				if len(out) == 0 {
					t.Fatal(err)
				}
				failed := regexp.MustCompile(`(?m)^ +× \d+: (.*)$`).FindAllSubmatch(out, -1)
				isExpected := len(failed) == 1 && string(failed[0][1]) == test.allowed
				if isExpected {
					return
				}
				for _, match := range failed {
					failures[string(match[1])]++
				}
			}
			for failure, times := range failures {
				if times == runs && failure != test.allowed {
					t.Errorf("h2spec: %s", failure)
				}
			}
		})
	}
}
