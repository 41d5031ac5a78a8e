package e2e_test

import (
	"testing"

	"github.com/peald/peald/internal/browsertest"
)

// testLayout checks the layout of the console, with ten users, at the width of a
// desktop and of a phone. WebKit resizes too slowly to test both.
func (p consolePage) testLayout(t *testing.T, kind browsertest.Kind) {
	t.Helper()

	widths := []int{1280, 390}
	if kind == browsertest.WebKit {
		widths = widths[1:]
	}

	for _, width := range widths {
		p.Resize(t, width, 1200)
		p.waitUntil(t, `document.documentElement.scrollWidth <= innerWidth`)
		p.waitUntil(t, `[...document.querySelectorAll(".rows")].every((rows) => rows.scrollWidth <= rows.clientWidth)`)

		// Rows are one line high: their buttons don't stack.
		p.waitUntil(t, `all("#users tbody tr").length === 10 && document.querySelector("#users tbody").offsetHeight <= 420`)
		p.testChartLayout(t)
	}

	p.testMenu(t)
}

// testChartLayout checks that charts are as wide as their cards permit, that
// those side by side share a baseline, and that no label is clipped.
func (p consolePage) testChartLayout(t *testing.T) {
	t.Helper()

	p.waitUntil(t, `[...document.querySelectorAll(".chart")].every((card) =>
		card.querySelector(".u-over").offsetWidth > 0.7 * card.offsetWidth)`)
	p.waitUntil(t, `((charts) => charts.every(([top, bottom]) => charts.every((other) => other[0] !== top || Math.abs(other[1] - bottom) < 1)))(
		[...document.querySelectorAll(".chart")].map((card) => [card.getBoundingClientRect().top, card.querySelector(".u-over").getBoundingClientRect().bottom]))`)

	var clipped []string

	p.Eval(t, `(window.labels = [], window.originalFillText ??= CanvasRenderingContext2D.prototype.fillText,
		CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
			const { width, actualBoundingBoxAscent: up, actualBoundingBoxDescent: down } = this.measureText(text);
			const left = x - { left: 0, start: 0, center: width / 2, right: width, end: width }[this.textAlign];
			const fits = left >= 0 && left + width <= this.canvas.width && y - up >= 0 && y + down <= this.canvas.height;
			window.labels.push({ text, fits });
			window.originalFillText.call(this, text, x, y);
		}, dispatchEvent(new Event("theme")))`, nil)
	p.waitUntil(t, `window.labels.length > 12`)
	p.Eval(t, `window.labels.filter(({ fits }) => !fits).map(({ text }) => text)`, &clipped)

	if len(clipped) > 0 {
		t.Errorf("clipped labels: %q", clipped)
	}
}

// testMenu chooses an action in a row's menu with the keyboard.
func (p consolePage) testMenu(t *testing.T) {
	t.Helper()

	const more = "#users tbody tr[data-key=alice] .more"

	open := func() {
		t.Helper()
		p.Type(t, more, browsertest.KeyEnter)
		p.waitUntil(t, `document.activeElement.dataset.act === "send" && document.activeElement.closest(".menu") !== null`)
	}

	p.waitUntil(t, `document.querySelector("#users tbody [data-act=send]").offsetWidth === 0`)
	open()
	p.waitUntil(t, `document.querySelector("`+more+`").ariaExpanded === "true"`)
	p.Press(t, browsertest.KeyEscape)
	p.waitUntil(t, `document.activeElement === document.querySelector("`+more+`") && document.activeElement.ariaExpanded === "false"`)

	open()
	p.Press(t, browsertest.KeyDown+browsertest.KeyDown+browsertest.KeyDown)
	p.waitUntil(t, `document.activeElement.dataset.act === "disconnect"`)
	p.Press(t, browsertest.KeyEnter)
	p.waitUntil(t, `document.getElementById("disconnect-dialog").open && all("#disconnect-user")[0] === "alice"`)
	p.Click(t, "#disconnect-no")
	p.waitUntil(t, `document.activeElement === document.querySelector("`+more+`")`)
}
