package e2e_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

// consolePage is a tab with the console.
type consolePage struct{ demoPage }

func openConsole(t *testing.T, b *browsertest.Browser, d *pealdtest.Daemon) consolePage {
	t.Helper()

	page := consolePage{demoPage{b.NewTab(t)}}

	// WebKit draws large windows slowly without a graphics card.
	if b.Kind != browsertest.WebKit {
		page.Resize(t, 1440, 1200)
	}

	page.Open(t, d.URL("/"))

	return page
}

// wantQuiet fails the test for each message in the browser's console that
// contains none of the expected texts.
func (p consolePage) wantQuiet(t *testing.T, expected ...string) {
	t.Helper()

	for _, message := range p.Console() {
		if !slices.ContainsFunc(expected, func(part string) bool { return strings.Contains(message, part) }) {
			t.Errorf("message in the browser's console: %s", message)
		}
	}
}

// plotted returns a picture of each chart.
func (p consolePage) plotted(t *testing.T) (drawn []string) {
	t.Helper()
	p.Eval(t, `[...document.querySelectorAll(".plot canvas")].map((canvas) => canvas.toDataURL())`, &drawn)

	return drawn
}
