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

// openConsole opens the console in a new tab and leaves it after the test.
func openConsole(t *testing.T, b *browsertest.Browser, d *pealdtest.Daemon) consolePage {
	t.Helper()

	page := consolePage{demoPage{b.NewTab(t)}}

	// An open console draws its charts every second. Closing the tab instead would
	// end some browsers.
	t.Cleanup(func() { page.Open(t, "about:blank") })

	// WebKit draws large windows slowly without a graphics card.
	if b.Kind != browsertest.WebKit {
		page.Resize(t, 1440, 1200)
	}

	page.Open(t, d.URL("/"))

	return page
}

// act clicks the button of an action in a row, or in the row's menu if the table
// is too narrow for buttons.
func (p consolePage) act(t *testing.T, row, action string) {
	t.Helper()

	button := row + " [data-act=" + action + "]"
	p.WaitFor(t, `document.querySelector("`+button+`") !== null`)

	var visible bool

	p.Eval(t, `document.querySelector("`+button+`").offsetWidth > 0`, &visible)

	if visible {
		p.Click(t, button)

		return
	}

	p.Click(t, row+" .more")
	p.Click(t, ".menu:popover-open [data-act="+action+"]")
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
