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

// Keys that have no character, for [Tab.Press].
const (
	KeyBackspace = "\uE003"
	KeyTab       = "\uE004"
	KeyEnter     = "\uE007"
	KeyRight     = "\uE014"
)

// Tab is a tab of a browser. It isn't safe for concurrent use.
type Tab struct {
	kind Kind
	page page
}

// page is the part of a Tab that depends on the kind of browser. Each call returns within
// patience.
type page interface {
	// open returns once the page is loaded.
	open(url string) error

	// eval evaluates an expression whose value is a string.
	eval(expression string) (string, error)

	// click presses and releases the mouse at a point of the viewport.
	click(x, y int) error

	// press presses and releases keys.
	press(keys string) error

	// resize gives the viewport a size in CSS pixels. A width that is too small
	// for a window becomes the smallest possible one.
	resize(width, height int) error

	// console returns the warnings and errors in the browser's console.
	console() []string

	close() error
}

// Open opens a page and returns once it is loaded.
func (p *Tab) Open(tb testing.TB, url string) {
	tb.Helper()
	p.check(tb, p.page.open(url), "opening "+url)
}

// Reload loads the page again and returns once it is loaded.
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

// Eval evaluates a JavaScript expression in the page and stores its value in
// the value pointed to by v, as encoding/json does. If v is nil, the value is
// ignored. A promise isn't waited for; see [Tab.Await].
func (p *Tab) Eval(tb testing.TB, expression string, v any) {
	tb.Helper()

	text, err := p.page.eval(asJSON(expression))
	if err == nil && v != nil {
		err = json.Unmarshal([]byte(text), v)
	}

	p.check(tb, err, "evaluating "+expression)
}

// Await evaluates a JavaScript expression in the page, waits for the promise
// that is its value, and stores the promise's value as [Tab.Eval] does. An
// async expression has to be wrapped in a function.
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

// WaitFor returns once a JavaScript condition holds in the page. A condition
// that throws doesn't hold yet.
func (p *Tab) WaitFor(tb testing.TB, condition string) {
	tb.Helper()

	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()

	again := time.NewTicker(25 * time.Millisecond)
	defer again.Stop()

	for {
		// Pages change under the eyes of a test, so an error is no verdict.
		holds, err := p.page.eval(`String(Boolean(` + condition + `))`)
		if holds == "true" {
			return
		}

		select {
		case <-again.C:
		case <-ctx.Done():
			if err == nil {
				err = ctx.Err()
			}

			tb.Fatalf("%s: waiting for %s: %v%s", p.kind, condition, err, p.describe())
		}
	}
}

// Click clicks the first element that a CSS selector finds, once it is visible
// and nothing covers it. Where the page moves under the mouse, it clicks again.
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
		if (!found) { // Scrolling is slow where a processor draws the page.
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

		// A click that opened another page left nothing to see.
		p.Eval(tb, `window.clicked === false`, &missed)
		p.check(tb, ctx.Err(), "clicking "+selector)
	}
}

// Type focuses the first element that a CSS selector finds, once there is one,
// and presses keys.
func (p *Tab) Type(tb testing.TB, selector, keys string) {
	tb.Helper()
	p.WaitFor(tb, `((element) => (element.focus(), document.activeElement === element))(document.querySelector(`+strconv.Quote(selector)+`))`)
	p.Press(tb, keys)
}

// Fill replaces the text of the field that a CSS selector finds, as pasting
// does. It costs less than pressing the keys.
func (p *Tab) Fill(tb testing.TB, selector, text string) {
	tb.Helper()

	argument, err := json.Marshal(text)
	p.check(tb, err, "encoding a text")

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

// Press presses keys one after the other, in the element that has the focus.
func (p *Tab) Press(tb testing.TB, keys string) {
	tb.Helper()
	p.check(tb, p.page.press(keys), fmt.Sprintf("pressing %q", keys))
}

// Resize gives the page a size in CSS pixels. WebKit's windows have a smallest
// width of about 450 pixels.
func (p *Tab) Resize(tb testing.TB, width, height int) {
	tb.Helper()
	p.check(tb, p.page.resize(width, height), "resizing a tab")
}

// Console returns the warnings and errors that the browser's console has of the
// page since it was opened. WebKit's driver reports none.
func (p *Tab) Console() []string { return p.page.console() }

// check fails the test if what was done failed with err.
func (p *Tab) check(tb testing.TB, err error, what string) {
	tb.Helper()

	if err != nil {
		tb.Fatalf("%s: %s: %v%s", p.kind, what, err, p.describe())
	}
}

// describe returns what a failed test logs of the page.
func (p *Tab) describe() string {
	shown, err := p.page.eval(`location.href + " shows:\n" + document.body.innerText`)
	if err != nil {
		shown = err.Error()
	}

	return "\n" + strings.Join(append([]string{shown}, p.page.console()...), "\nconsole: ")
}

// asJSON returns an expression for the JSON of another one's value.
func asJSON(expression string) string { return `JSON.stringify((` + expression + `) ?? null)` }
