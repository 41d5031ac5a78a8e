package checks_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func TestDockerfile(t *testing.T) {
	file, err := parser.Parse(strings.NewReader(read(t, "../Dockerfile")))
	if err != nil {
		t.Fatal(err)
	}

	for _, warning := range file.Warnings {
		t.Errorf("the parser warns: %s", warning.Short)
	}

	lint := linter.New(&linter.Config{
		Warn: func(rule, _, _, message string, at []parser.Range) { t.Errorf("%s: %s (%v)", rule, message, at) },
	})

	stages, _, err := instructions.Parse(file.AST, lint)
	if err != nil {
		t.Fatal(err)
	}

	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../../go.mod"))
	if builder := stages[0].BaseName; goVersion == nil || builder != "golang:"+goVersion[1] {
		t.Errorf("the image is built by %s, and go.mod asks for %q", builder, goVersion)
	}

	last := stages[len(stages)-1]
	if !strings.HasSuffix(last.BaseName, ":nonroot") {
		t.Errorf("the image stands on %s, whose user is root", last.BaseName)
	}

	programs := built(t)

	for _, command := range last.Commands {
		if health, ok := command.(*instructions.HealthCheckCommand); ok {
			test := health.Health.Test
			if len(test) < 2 || test[0] != "CMD" || test[1] != "/usr/bin/pealctl" {
				t.Fatalf("the health check is %q: without a shell it has to run /usr/bin/pealctl", test)
			}

			understood(t, programs, test[2:])
		}
	}
}

func TestCompose(t *testing.T) {
	env := write(t, "peald.env", read(t, "../peald.env.example"))
	content := strings.Replace(read(t, "../compose.yaml"), "env_file: peald.env", "env_file: "+env, 1)

	project := func(env ...string) (*types.Project, error) {
		options, err := cli.NewProjectOptions([]string{write(t, "compose.yaml", content)}, cli.WithEnv(env))
		if err != nil {
			t.Fatal(err)
		}

		return options.LoadProject(t.Context())
	}

	if _, err := project(); err == nil || !strings.Contains(err.Error(), "PEALD_HOST") {
		t.Errorf("without PEALD_HOST: %v", err)
	}

	found, err := project("PEALD_HOST=events.example.com")
	if err != nil {
		t.Fatal(err)
	}

	peald := found.Services["peald"]

	for _, port := range peald.Ports {
		if port.HostIP != "127.0.0.1" {
			t.Errorf("port %d of the control plane is published to %q", port.Target, port.HostIP)
		}
	}

	const drain = 30 * time.Second // the default
	if grace := time.Duration(*peald.StopGracePeriod); grace <= drain {
		t.Errorf("the daemon is killed after %s, and may take %s to end", grace, drain)
	}

	var variables []string

	for name, value := range peald.Environment {
		variables = append(variables, name+"="+*value)
	}

	programs := built(t)

	// The example's secrets are empty: nobody runs a control plane without.
	if out, err := effective(t, programs, variables, ""); err == nil || !strings.Contains(out, "control.tokens") {
		t.Errorf("with empty secrets: %v\n%s", err, out)
	}

	filled := append(slices.Clone(variables), "PEALD_CONTROL_TOKENS=shop:0123456789abcdef0123:publish")
	if out, err := effective(t, programs, filled, ""); err != nil {
		t.Errorf("with a control token: %v\n%s", err, out)
	}

	if upstream := found.Services["caddy"].Environment["PEALD_UPSTREAM"]; upstream == nil || *upstream != "peald:8080" {
		t.Errorf("Caddy passes streams on to %v", upstream)
	}
}
