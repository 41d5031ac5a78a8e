package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/peald/peald/daemon"
)

// TestVariablesInDocsAndDeploymentsAreSettings checks every PEALD_ variable in the
// documentation and the deployment files. The daemon doesn't start with an unknown
// one.
func TestVariablesInDocsAndDeploymentsAreSettings(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}

	for _, s := range daemon.Defaults().Settings() {
		known[variable(s.Key)] = true
	}

	names := regexp.MustCompile(`\bPEALD_[A-Z0-9_]*[A-Z0-9]\b`)
	for _, root := range []string{"../../deploy", "../../docs", "../../README.md", "../../examples"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) == ".go" {
				return err
			}

			content, err := os.ReadFile(path)
			for _, name := range names.FindAllString(string(content), -1) {
				if !known[name] {
					t.Errorf("%s: %s is not a setting", path, name)
				}
			}

			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
