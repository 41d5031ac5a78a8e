package checks_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goreleaser/goreleaser/v2/pkg/config"
	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	_ "github.com/goreleaser/nfpm/v2/rpm"
	"go.yaml.in/yaml/v3"
)

// TestPackages builds the packages from the nfpms section of the release
// configuration.
func TestPackages(t *testing.T) {
	const file = "../../.goreleaser.yaml"

	if _, err := config.Load(file); err != nil {
		t.Fatalf("goreleaser: %v", err)
	}

	var release struct {
		NFPMs []map[string]any `yaml:"nfpms"`
	}
	if err := yaml.Unmarshal([]byte(read(t, file)), &release); err != nil || len(release.NFPMs) != 1 {
		t.Fatalf("%d packages in %s (%v), want 1", len(release.NFPMs), file, err)
	}

	programs := built(t)
	repository := stageRelease(t, programs)
	packaged := release.NFPMs[0]
	formats := packaged["formats"].([]any)

	// Translate goreleaser's own keys in the same way as goreleaser.
	packaged["name"], packaged["version"], packaged["arch"] = packaged["package_name"], "1.2.3", "amd64"
	for _, key := range []string{"package_name", "formats", "bindir"} {
		delete(packaged, key)
	}

	// Don't compress the packages: small packages matter only for a release.
	packaged["deb"] = map[string]any{"compression": "none"}
	packaged["rpm"] = map[string]any{"compression": "zstd:fastest"}

	packaged["contents"] = append(packaged["contents"].([]any),
		map[string]any{"src": filepath.Join(programs, "peald"), "dst": "/usr/bin/peald"},
		map[string]any{"src": filepath.Join(programs, "pealctl"), "dst": "/usr/bin/pealctl"},
	)

	text, err := yaml.Marshal(packaged)
	if err != nil {
		t.Fatal(err)
	}

	t.Chdir(repository)

	parsed, err := nfpm.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("nfpm: %v", err)
	}

	for _, format := range formats {
		var content bytes.Buffer

		info, err := parsed.Get(format.(string))
		if err != nil {
			t.Fatal(err)
		}

		packager, err := nfpm.Get(format.(string))
		if err != nil {
			t.Fatal(err)
		}

		if err := packager.Package(nfpm.WithDefaults(info), &content); err != nil {
			t.Fatalf("%s: %v", format, err)
		}

		if format == "deb" {
			t.Run("deb", func(t *testing.T) { checkDeb(t, content.String()) })
		}
	}
}

func checkDeb(t *testing.T, content string) {
	t.Helper()

	dpkg, deb, root := program(t, "dpkg-deb"), write(t, "peald.deb", content), t.TempDir()

	run(t, dpkg, "--info", deb)
	run(t, dpkg, "--extract", deb, root)

	for _, path := range []string{
		"/usr/bin/peald", "/usr/bin/pealctl", "/usr/lib/systemd/system/peald.service",
		"/usr/lib/systemd/system/peald.socket", "/etc/peald/peald.yaml",
		"/usr/share/man/man1/peald.1", "/usr/share/man/man1/pealctl-bench.1",
		"/usr/share/bash-completion/completions/peald", "/usr/share/zsh/vendor-completions/_pealctl",
		"/usr/share/fish/vendor_completions.d/peald.fish", "/usr/share/doc/peald/docs/configuration.md",
	} {
		if info, err := os.Stat(root + path); err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
			t.Errorf("%s in the package: %v", path, err)
		}
	}

	const secret = 0o600
	if info, err := os.Stat(root + "/etc/peald/peald.env"); err != nil || info.Mode().Perm() != secret {
		t.Errorf("the secrets file: %v, %v", info.Mode(), err)
	}

	// The installed daemon accepts the installed configuration, and an upgrade asks
	// before it replaces files that an operator changed.
	run(t, root+"/usr/bin/peald", "config", "--config", root+"/etc/peald/peald.yaml")

	conffiles := strings.Fields(run(t, dpkg, "--info", deb, "conffiles"))
	if want := []string{"/etc/peald/peald.env", "/etc/peald/peald.yaml"}; !slices.Equal(slices.Sorted(slices.Values(conffiles)), want) {
		t.Errorf("conffiles are %q, want %q", conffiles, want)
	}

	for _, script := range []string{"postinst", "prerm", "postrm"} {
		run(t, program(t, "sh"), "-n", write(t, script, run(t, dpkg, "--info", deb, script)))
	}
}

// stageRelease creates a directory with the repository's packaged files and the
// files that a release generates before it builds packages. It returns its path.
func stageRelease(t *testing.T, programs string) string {
	t.Helper()

	folder := t.TempDir()

	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	for _, name := range []string{"README.md", "CHANGELOG.md", "docs", "deploy"} {
		if err := os.Symlink(filepath.Join(top, name), filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}

	bin := filepath.Join(folder, "bin")
	if err := os.MkdirAll(filepath.Join(bin, "completions"), 0o755); err != nil {
		t.Fatal(err)
	}

	run(t, "go", append(goArgs(t, "test"), "-count=1", "-vet=off", "-run=^TestManPages$", "./cmd/peald", "./cmd/pealctl", "-man="+filepath.Join(bin, "man"))...)

	generated := map[string]string{"peald.yaml": run(t, filepath.Join(programs, "peald"), "config", "--defaults")}

	for _, command := range []string{"peald", "pealctl"} {
		for _, shell := range []string{"bash", "zsh", "fish"} {
			generated["completions/"+command+"."+shell] = run(t, filepath.Join(programs, command), "completion", shell)
		}
	}

	for name, content := range generated {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	return folder
}

// run runs a program and returns its standard output. Failure ends the test.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()

	var out, errs bytes.Buffer

	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs

	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, &out, &errs)
	}

	return out.String()
}
