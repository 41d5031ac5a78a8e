package e2e_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/peald/peald/internal/pealdtest"
)

// consolePage is a tab that shows the console.
type consolePage struct {
	demoPage

	said *said
}

// said is what the page wrote to the browser's console, failures of its policy
// among it.
type said struct {
	mu       sync.Mutex
	messages []string
}

func openConsole(t *testing.T, chromium chromium, d *pealdtest.Daemon) consolePage {
	t.Helper()

	page := consolePage{demoPage{chromium.newTab(t, 4*patience)}, &said{}}
	ctx, cancel := context.WithCancel(page.ctx)
	messages := chromedp.Console(ctx)

	var reading sync.WaitGroup

	reading.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}

			if m.Type != chromedp.ConsoleLog && m.Type != chromedp.ConsoleInfo && m.Type != chromedp.ConsoleDebug {
				page.said.mu.Lock()
				page.said.messages = append(page.said.messages, m.String())
				page.said.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		reading.Wait()
	})

	if err := chromedp.Do(page.ctx, chromedp.EmulateViewport(1440, 1200), chromedp.Navigate(d.URL("/"))); err != nil {
		t.Fatal(err)
	}

	return page
}

// wantQuiet fails for what the page has written to the browser's console, but
// for lines that hold one of those expected.
func (p consolePage) wantQuiet(t *testing.T, expected ...string) {
	t.Helper()
	p.said.mu.Lock()
	defer p.said.mu.Unlock()

	for _, message := range p.said.messages {
		if !slices.ContainsFunc(expected, func(part string) bool { return strings.Contains(message, part) }) {
			t.Errorf("the browser's console has %s", message)
		}
	}
}

func (p consolePage) do(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()

	if err := chromedp.Do(p.ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

func (p consolePage) click(t *testing.T, selector string) {
	t.Helper()
	p.do(t, chromedp.Click(chromedp.CSS(selector)))
}

// fill puts text into a field, in the place of what is there.
func (p consolePage) fill(t *testing.T, selector, text string) {
	t.Helper()
	p.waitUntil(t, `(document.querySelector(`+jsonOf(t, selector)+`).select(), true)`)
	p.do(t, chromedp.SendKeys(chromedp.CSS(selector), kb.Backspace+text))
}

// plotted is what each chart shows, as a picture.
func (p consolePage) plotted(t *testing.T) []string {
	t.Helper()

	drawn, err := chromedp.Run(p.ctx, chromedp.Evaluate[[]string](`[...document.querySelectorAll(".plot canvas")].map((canvas) => canvas.toDataURL())`))
	if err != nil {
		t.Fatal(err)
	}

	return drawn
}
