package docs_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestLinks follows the links between documents: files must exist, and anchors must
// be headings.
func TestLinks(t *testing.T) {
	t.Parallel()

	code := regexp.MustCompile("`[^`\n]*`")
	link := regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"`)
	anchors := map[string][]string{} // by document

	for _, name := range append(pages(t), "CHANGELOG.md", "SECURITY.md", "examples/README.md") {
		text := code.ReplaceAllString(withoutBlocks(read(t, name)), "")

		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target := m[1] + m[2]
			if strings.Contains(target, "://") {
				continue
			}

			file, anchor, _ := strings.Cut(target, "#")

			to := name
			if file != "" {
				to = path.Join(path.Dir(name), file)
			}

			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: link to %s: %v", name, target, err)

				continue
			}

			if anchor == "" {
				continue
			}

			if anchors[to] == nil {
				anchors[to] = anchorsOf(read(t, to))
			}

			if !slices.Contains(anchors[to], anchor) {
				t.Errorf("%s: link to %s: no such heading", name, target)
			}
		}
	}
}

// anchorsOf returns the anchors of a document's headings, as GitHub generates them.
func anchorsOf(text string) []string {
	heading := regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped := regexp.MustCompile(`[^\p{L}\p{N}_ -]`)

	var anchors []string

	for _, m := range heading.FindAllStringSubmatch(withoutBlocks(text), -1) {
		anchor := dropped.ReplaceAllString(strings.ToLower(m[1]), "")
		anchors = append(anchors, strings.ReplaceAll(anchor, " ", "-"))
	}

	return anchors
}

func withoutBlocks(text string) string {
	return regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, "")
}
