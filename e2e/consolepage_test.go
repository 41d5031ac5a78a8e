package e2e_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

// consolePage is a tab that shows the console.
type consolePage struct{ demoPage }

func openConsole(t *testing.T, b *browsertest.Browser, d *pealdtest.Daemon) consolePage {
	t.Helper()

	page := consolePage{demoPage{b.NewTab(t)}}

	// WebKit draws without a graphics card, and large windows slowly.
	if b.Kind != browsertest.WebKit {
		page.Resize(t, 1440, 1200)
	}

	page.Open(t, d.URL("/"))

	return page
}

// wantQuiet fails for what the page has written to the browser's console, but
// for lines that hold one of those expected.
func (p consolePage) wantQuiet(t *testing.T, expected ...string) {
	t.Helper()

	for _, message := range p.Console() {
		if !slices.ContainsFunc(expected, func(part string) bool { return strings.Contains(message, part) }) {
			t.Errorf("the browser's console has %s", message)
		}
	}
}

// plotted is what each chart shows, as a picture.
func (p consolePage) plotted(t *testing.T) (drawn []string) {
	t.Helper()
	p.Eval(t, `[...document.querySelectorAll(".plot canvas")].map((canvas) => canvas.toDataURL())`, &drawn)

	return drawn
}
