package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Keys without a character, for [Tab.Press].
const (
	KeyBackspace = "\uE003"
	KeyTab       = "\uE004"
	KeyEnter     = "\uE007"
	KeyEscape    = "\uE00C"
	KeyRight     = "\uE014"
	KeyDown      = "\uE015"
)

// The wait between two checks of a page grows, because a check takes a few
// milliseconds of CPU time in the browser's processes.
const (
	shortestWait = 10 * time.Millisecond
	longestWait  = 250 * time.Millisecond
)

// Tab is a browser tab. It isn't safe for concurrent use.
type Tab struct {
	kind    Kind
	page    page
	process int // the id of its process; 0 if it is unknown
}

// page is the part of a Tab that depends on the kind of browser. Each call returns
// within patience.
type page interface {
	// open opens a URL and returns after the page is loaded.
	open(url string) error

	// eval evaluates an expression whose value is a string.
	eval(expression string) (string, error)

	// click presses and releases the mouse button at a point in the viewport.
	click(x, y int) error

	// press presses and releases keys.
	press(keys string) error

	// resize sets the size of the viewport in CSS pixels. A width below the
	// window's minimum is raised to that minimum.
	resize(width, height int) error

	// browserProcess returns the id of the process that has started the tab's process,
	// directly or indirectly.
	browserProcess() int

	// console returns the warnings and errors in the browser's console.
	console() []string

	close() error
}

// Kind returns the kind of the tab's browser.
func (p *Tab) Kind() Kind { return p.kind }

// Open opens a page and returns after it is loaded.
func (p *Tab) Open(tb testing.TB, url string) {
	tb.Helper()
	p.check(tb, p.page.open(url), "opening "+url)
}

// Reload reloads the page and returns after it is loaded.
func (p *Tab) Reload(tb testing.TB) {
	tb.Helper()
	p.Eval(tb, `(window.beforeReload = true, location.reload())`, nil)
	p.WaitFor(tb, `window.beforeReload === undefined && document.readyState === "complete"`)
}

// Close closes the tab.
func (p *Tab) Close(tb testing.TB) {
	tb.Helper()
	p.check(tb, p.page.close(), "closing a tab")
}

// Eval evaluates a JavaScript expression in the page and stores its value in the
// variable that v points to, in the same way as encoding/json. If v is nil, it
// ignores the value. It doesn't wait for a promise; see [Tab.Await].
func (p *Tab) Eval(tb testing.TB, expression string, v any) {
	tb.Helper()

	text, err := p.page.eval(asJSON(expression))
	if err == nil && v != nil {
		err = json.Unmarshal([]byte(text), v)
	}

	p.check(tb, err, "evaluating "+expression)
}

// Await evaluates a JavaScript expression in the page, waits for the resulting
// promise, and stores the value of the promise in the same way as [Tab.Eval]. An
// async expression must be wrapped in a function.
func (p *Tab) Await(tb testing.TB, promise string, v any) {
	tb.Helper()

	var index int

	p.Eval(tb, `((all) => {
		const settled = {};
		Promise.resolve(`+promise+`).then(
			(value) => { settled.value = JSON.stringify(value ?? null); },
			(error) => { settled.error = String(error); },
		);
		return all.push(settled) - 1;
	})(window.awaited ??= [])`, &index)

	slot := "window.awaited[" + strconv.Itoa(index) + "]"
	p.WaitFor(tb, `"value" in `+slot+` || "error" in `+slot)

	var settled struct{ Value, Error string }

	p.Eval(tb, slot, &settled)

	switch {
	case settled.Error != "":
		tb.Fatalf("%s: awaiting %s: %s", p.kind, promise, settled.Error)
	case v != nil:
		p.check(tb, json.Unmarshal([]byte(settled.Value), v), "awaiting "+promise)
	}
}

// WaitFor waits until a JavaScript condition is true in the page. A condition that
// throws counts as false.
func (p *Tab) WaitFor(tb testing.TB, condition string) {
	tb.Helper()

	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()

	wait := shortestWait

	for {
		// The page may be changing, so an error isn't final.
		holds, err := p.page.eval(`String(Boolean(` + condition + `))`)
		if holds == "true" {
			return
		}

		select {
		case <-time.After(wait):
			wait = min(wait*3/2, longestWait)
		case <-ctx.Done():
			if err == nil {
				err = ctx.Err()
			}

			tb.Fatalf("%s: waiting for %s: %v%s", p.kind, condition, err, p.describe())
		}
	}
}

// Click clicks the first element that matches a CSS selector, as soon as it is visible
// and not covered. If the page moves under the mouse, Click clicks again.
func (p *Tab) Click(tb testing.TB, selector string) {
	tb.Helper()

	at := fmt.Sprintf(`((element) => {
		if (!element) return false;
		const point = () => {
			const { left, top, width, height } = element.getBoundingClientRect();
			const x = Math.floor(left + width / 2), y = Math.floor(top + height / 2);
			const hit = document.elementFromPoint(x, y);
			if (width === 0 || !hit) return false;
			if (!element.contains(hit) && ![...(element.labels ?? [])].some((label) => label.contains(hit))) return false;
			return [x, y];
		};
		let found = point();
		if (!found) { // Scrolling is slow if the CPU renders the page.
			element.scrollIntoView({ block: "center", inline: "nearest", behavior: "instant" });
			found = point();
		}
		if (!found) return false;
		window.clicked = false;
		element.addEventListener("click", () => { window.clicked = true; }, { once: true, capture: true });
		return found;
	})(document.querySelector(%s))`, strconv.Quote(selector))

	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()

	for missed := true; missed; {
		p.WaitFor(tb, at)

		var point [2]int

		p.Eval(tb, at, &point)
		p.check(tb, p.page.click(point[0], point[1]), "clicking "+selector)

		// If the click opened another page, the variable is undefined.
		p.Eval(tb, `window.clicked === false`, &missed)
		p.check(tb, ctx.Err(), "clicking "+selector)
	}
}

// Type focuses the first element that matches a CSS selector, as soon as it exists, and
// presses keys.
func (p *Tab) Type(tb testing.TB, selector, keys string) {
	tb.Helper()
	p.WaitFor(tb, `((element) => (element.focus(), document.activeElement === element))(document.querySelector(`+strconv.Quote(selector)+`))`)
	p.Press(tb, keys)
}

// Fill replaces the text of the field that matches a CSS selector, as if the text
// were pasted. This is faster than pressing the keys.
func (p *Tab) Fill(tb testing.TB, selector, text string) {
	tb.Helper()

	argument, err := json.Marshal(text)
	p.check(tb, err, "encoding text")

	command := "insertText"

	if text == "" {
		command = "delete"
	}

	p.WaitFor(tb, `((field) => {
		field.focus();
		field.select();
		return document.activeElement === field &&
			(document.execCommand("`+command+`", false, `+string(argument)+`) || field.value === `+string(argument)+`);
	})(document.querySelector(`+strconv.Quote(selector)+`))`)
}

// Press presses keys, one after another, in the focused element.
func (p *Tab) Press(tb testing.TB, keys string) {
	tb.Helper()
	p.check(tb, p.page.press(keys), fmt.Sprintf("pressing %q", keys))
}

// Resize sets the size of the page in CSS pixels. In WebKit the minimum width is about
// 450 pixels.
func (p *Tab) Resize(tb testing.TB, width, height int) {
	tb.Helper()
	p.check(tb, p.page.resize(width, height), "resizing a tab")
}

// Console returns the warnings and errors that were written to the browser's
// console since the page was opened. WebKit's driver reports none.
func (p *Tab) Console() []string { return p.page.console() }

// check fails the test if err is not nil. Action describes what failed.
func (p *Tab) check(tb testing.TB, err error, action string) {
	tb.Helper()

	if err != nil {
		tb.Fatalf("%s: %s: %v%s", p.kind, action, err, p.describe())
	}
}

// describe returns a description of the page for the log of a failed test.
func (p *Tab) describe() string {
	text, err := p.page.eval(`location.href + " shows:\n" + document.body.innerText`)
	if err != nil {
		text = err.Error()
	}

	return "\n" + strings.Join(append([]string{text}, p.page.console()...), "\nconsole: ")
}

// asJSON returns an expression for the JSON of the value of expression.
func asJSON(expression string) string { return `JSON.stringify((` + expression + `) ?? null)` }
