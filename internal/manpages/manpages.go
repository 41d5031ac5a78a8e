// Package manpages writes the man pages of a command. Tests call it, so that no
// program carries what that takes.
package manpages

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"github.com/peald/peald/internal/buildinfo"
	"github.com/peald/peald/internal/pealdtest"
)

// Test writes a page for root and for each command below it into a folder, and
// has a reader of man pages check them. An empty folder is one that goes with
// the test. Their date is that of the variable SOURCE_DATE_EPOCH, if it is set.
func Test(t *testing.T, root *cobra.Command, folder string) {
	t.Helper()

	if folder == "" {
		folder = t.TempDir()
	}

	const everybody = 0o755
	if err := os.MkdirAll(folder, everybody); err != nil {
		t.Fatal(err)
	}

	root.DisableAutoGenTag = true
	root.InitDefaultCompletionCmd()
	plain(root)

	header := &doc.GenManHeader{Section: "1", Source: root.Name() + " " + buildinfo.Version(), Manual: root.Name()}
	if err := doc.GenManTree(root, header, folder); err != nil {
		t.Fatal(err)
	}

	pages, err := filepath.Glob(filepath.Join(folder, root.Name()+"*.1"))
	if err != nil || len(pages) <= len(root.Commands()) {
		t.Fatalf("%d pages (%v) for a command with %d below it", len(pages), err, len(root.Commands()))
	}

	reader := pealdtest.Program(t, "mandoc")

	lint := exec.CommandContext(t.Context(), reader, append([]string{"-T", "lint", "-W", "error"}, pages...)...) //nolint:gosec // a test's own folder
	if out, err := lint.CombinedOutput(); err != nil {
		t.Errorf("mandoc -T lint: %v\n%s", err, out)
	}

	page := filepath.Join(folder, root.Name()+".1")

	shown, err := exec.CommandContext(t.Context(), reader, "-T", "html", page).Output() //nolint:gosec // a test's own folder
	if err != nil {
		t.Fatalf("mandoc: %v", err)
	}

	root.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && !bytes.Contains(shown, []byte("--"+f.Name+"<")) {
			t.Errorf("the page of %s doesn't show --%s", root.Name(), f.Name)
		}
	})
}

// plain makes texts of a command and those below it say in Markdown, which the
// pages are made of, what they say as they are.
func plain(cmd *cobra.Command) {
	cmd.Long = strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "<", `\<`, "`", "\\`").Replace(cmd.Long)

	cmd.Flags().VisitAll(func(f *pflag.Flag) { _, f.Usage = pflag.UnquoteUsage(f) })

	for _, below := range cmd.Commands() {
		plain(below)
	}
}
