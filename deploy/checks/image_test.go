package checks_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// stateFolder is the image's mount point for a volume.
const stateFolder = "/var/lib/peald"

func TestDockerfile(t *testing.T) {
	file, err := parser.Parse(strings.NewReader(read(t, "../Dockerfile")))
	if err != nil {
		t.Fatal(err)
	}

	for _, warning := range file.Warnings {
		t.Errorf("parser warning: %s", warning.Short)
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
		t.Errorf("the image is built with %s, and go.mod requires %q", builder, goVersion)
	}

	last := stages[len(stages)-1]
	if !strings.HasSuffix(last.BaseName, ":nonroot") {
		t.Errorf("the base image is %s, want one whose user is nonroot", last.BaseName)
	}

	programs := built(t)

	var state bool

	for _, command := range last.Commands {
		if add, ok := command.(*instructions.CopyCommand); ok && add.DestPath == stateFolder {
			state = add.Chown == "65532:0" && add.Chmod == "0770" // nonroot, or any other user
		}

		if health, ok := command.(*instructions.HealthCheckCommand); ok {
			test := health.Health.Test
			if len(test) < 2 || test[0] != "CMD" || test[1] != "/usr/bin/pealctl" {
				t.Fatalf("the health check is %q; the image has no shell, so it must run /usr/bin/pealctl", test)
			}

			checkUsage(t, programs, test[2:])
		}
	}

	if !state {
		t.Errorf("%s must be writable for nonroot and for any user in group 0", stateFolder)
	}
}
