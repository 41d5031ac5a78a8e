package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/peald/peald/daemon"
)

// TestVariablesOfOthersHaveNoPrefixOfOurs: a variable that begins with PEALD_
// and is no setting stops the start, so nothing around the daemon may use one.
func TestVariablesOfOthersHaveNoPrefixOfOurs(t *testing.T) {
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
					t.Errorf("%s: %s is no setting", path, name)
				}
			}

			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
