package main_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	peald "github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/pealdtest"
)

// TestDocumentedBenchmarks runs the benchmarks in docs/sizing.md with fewer
// streams and messages, on a daemon with the settings given there.
func TestDocumentedBenchmarks(t *testing.T) {
	t.Parallel()

	text, err := os.ReadFile("../../docs/sizing.md")
	if err != nil {
		t.Fatal(err)
	}

	_, section, found := strings.Cut(string(text), "\n## Measure your machine\n")
	section, _, _ = strings.Cut(section, "\n## ")

	commands := regexp.MustCompile(`(?m)^\$ bin/pealctl (bench.*)$`).FindAllStringSubmatch(section, -1)
	start := regexp.MustCompile(`(?m)^\$ (.*)bin/peald$`).FindStringSubmatch(section)

	if !found || len(commands) < 3 || start == nil {
		t.Fatalf("docs/sizing.md has %d benchmarks and starts the daemon with %q", len(commands), start)
	}

	d := pealdtest.Start(t, func(cfg *peald.Config) {
		if !strings.Contains(start[1], "PEALD_AUTH_JWT_HMAC_SECRET=") {
			cfg.Auth.JWT.HMACSecret = ""
		}
	})

	less := map[string]string{"--clients": "20", "--users": "10", "--duration": "300ms", "--rate": "100", "--resume": "5"}

	for _, command := range commands {
		args := strings.Fields(command[1])
		if !slices.Contains(args, "--duration") && !slices.Contains(args, "--resume") {
			args = append(args, "--duration", "") // instead of the default
		}

		for i, arg := range args[:len(args)-1] {
			if value, ok := less[arg]; ok {
				args[i+1] = value
			}
		}

		r := pealctl(t, append([]string{"--addr", d.GRPC}, append(args, "--url", d.Events(t, ""))...))
		if r.status != 0 || r.stderr != "" {
			t.Errorf("%s: status %d: %s", command[1], r.status, r.stderr)
		}
	}
}
