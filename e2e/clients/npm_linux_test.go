package clients_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/peald/peald/internal/testbed"
)

// nodeDrivers returns a directory that contains the drivers of testdata/node and
// a link to the packages that they import.
func nodeDrivers(t *testing.T) string {
	t.Helper()

	source, dir := filepath.Join("testdata", "node"), t.TempDir()

	drivers, err := filepath.Glob(filepath.Join(source, "*.mjs"))
	if err != nil {
		t.Fatal(err)
	}

	for _, driver := range drivers {
		testbed.CopyFile(t, driver, dir)
	}

	if err := os.Symlink(testbed.NodeModules(t, source), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}

	return dir
}
