// Package manpages writes the man pages of a command. It is called by tests, so
// that programs don't contain the generator.
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
	"github.com/peald/peald/internal/testbed"
)

// Test writes a page for root and for each of its subcommands into a folder, and
// checks the pages with mandoc. If folder is empty, it uses a temporary one. The
// environment variable SOURCE_DATE_EPOCH sets the date of the pages.
func Test(t *testing.T, root *cobra.Command, folder string) {
	t.Helper()

	if folder == "" {
		folder = t.TempDir()
	}

	const readableByAll = 0o755
	if err := os.MkdirAll(folder, readableByAll); err != nil {
		t.Fatal(err)
	}

	root.DisableAutoGenTag = true
	root.InitDefaultCompletionCmd()
	escapeMarkdown(root)

	header := &doc.GenManHeader{Section: "1", Source: root.Name() + " " + buildinfo.Version(), Manual: root.Name()}
	if err := doc.GenManTree(root, header, folder); err != nil {
		t.Fatal(err)
	}

	pages, err := filepath.Glob(filepath.Join(folder, root.Name()+"*.1"))
	if err != nil || len(pages) <= len(root.Commands()) {
		t.Fatalf("%d pages (%v) for a command with %d subcommands", len(pages), err, len(root.Commands()))
	}

	reader := testbed.Program(t, "mandoc")

	lint := exec.CommandContext(t.Context(), reader, append([]string{"-T", "lint", "-W", "error"}, pages...)...) //nolint:gosec // a folder of the test
	if out, err := lint.CombinedOutput(); err != nil {
		t.Errorf("mandoc -T lint: %v\n%s", err, out)
	}

	page := filepath.Join(folder, root.Name()+".1")

	html, err := exec.CommandContext(t.Context(), reader, "-T", "html", page).Output() //nolint:gosec // a folder of the test
	if err != nil {
		t.Fatalf("mandoc: %v", err)
	}

	root.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && !bytes.Contains(html, []byte("--"+f.Name+"<")) {
			t.Errorf("the man page of %s lacks --%s", root.Name(), f.Name)
		}
	})
}

// escapeMarkdown escapes the help texts of a command and its subcommands, because
// the pages are generated from Markdown.
func escapeMarkdown(cmd *cobra.Command) {
	cmd.Long = strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "<", `\<`, "`", "\\`").Replace(cmd.Long)

	cmd.Flags().VisitAll(func(f *pflag.Flag) { _, f.Usage = pflag.UnquoteUsage(f) })

	for _, sub := range cmd.Commands() {
		escapeMarkdown(sub)
	}
}
