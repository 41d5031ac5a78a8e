package e2e_test

import (
	"strings"
	"testing"

	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

// testRetained publishes retained values with the form, shows them for audiences
// without streams, and clears them.
func (p consolePage) testRetained(t *testing.T, d *pealdtest.Daemon) {
	t.Helper()
	p.publishRetained(t)

	// The dialog opens for any audience.
	p.Click(t, "#history-button")
	p.waitUntil(t, `document.activeElement.id === "history-target" && all("#history-title")[0] === "Messages" && document.getElementById("history-refresh").disabled`)
	p.Press(t, browsertest.KeyEnter)
	p.waitUntil(t, `all("#history-target-problem")[0] === "Enter a topic"`)
	p.Fill(t, "#history-target", "answers.7")
	p.Press(t, browsertest.KeyEnter)
	p.waitUntil(t, `all("#history-list .text").join() === "the end,so far" && all("#history-target-problem")[0] === ""`)
	p.Click(t, "#history-dialog [value=retained]")
	p.waitUntil(t, `all("#history-title")[0] === "Retained values of answers.7" && all("#history-list .badge")[0].includes("topic") && all("#history-list .badge")[1] === "topic · key progress"`)

	// One value, and then all of them. Enter cancels.
	p.Click(t, "#history-list li:last-child .clear")
	p.waitUntil(t, `all("#clear-title")[0] === "Clear the value with the key progress of answers.7?" && document.activeElement.id === "clear-no"`)
	p.Press(t, browsertest.KeyEnter)
	p.waitUntil(t, `!document.getElementById("clear-dialog").open && all("#history-list .text").length === 2`)
	p.Click(t, "#history-list li:last-child .clear")
	p.Click(t, "#clear-yes")
	p.waitUntil(t, `all("#history-list .text").join() === "the end" && all("#history-state")[0] === "Cleared 1 value. 1 shown, newest first" && document.activeElement.id === "history-refresh"`)
	p.Click(t, "#history-clear")
	p.waitUntil(t, `all("#clear-title")[0] === "Clear all retained values of answers.7?"`)
	p.Click(t, "#clear-yes")
	p.waitUntil(t, `all("#history-empty")[0] === "There are no retained values." && all("#history-state")[0] === "Cleared 1 value." && document.getElementById("history-clear").hidden`)

	p.Eval(t, `((select) => { select.value = "everyone"; select.dispatchEvent(new Event("change")); })(document.getElementById("history-of"))`, nil)
	p.waitUntil(t, `all("#history-title")[0] === "Retained values of broadcasts" && document.getElementById("history-target").hidden && all("#history-list .text").join() === "to all"`)
	p.waitUntil(t, `document.documentElement.scrollWidth <= innerWidth`)
	p.Click(t, "#history-close")
	p.waitUntil(t, `all("#totals dt").some((name, i) => name === "Retained values" && all("#totals dd:first-of-type")[i] === "2")`)
}

// publishRetained publishes three values with the form.
func (p consolePage) publishRetained(t *testing.T) {
	t.Helper()

	for _, value := range []struct{ to, target, data, key, final string }{
		{"everyone", "", "to all", "", ""},
		{"topic", "answers.7", "so far", "progress", ""},
		{"topic", "answers.7", "the end", "", "final"},
	} {
		p.Click(t, "#publish-form [value="+value.to+"]")
		p.waitUntil(t, `document.getElementById("publish-final-field").hidden === `+jsonOf(t, value.to != "topic"))

		if value.target != "" {
			p.Fill(t, "#publish-target", value.target)
		}

		p.Fill(t, "#publish-data", value.data)
		p.Fill(t, "#publish-key", value.key)
		p.check(t, "#publish-retain", true)
		p.check(t, "#publish-final", value.final != "")
		p.Click(t, "#publish-form [type=submit]")
		p.waitUntil(t, `all("#publish-result")[0].startsWith("Sent to ")`)
		p.Eval(t, `(document.getElementById("publish-result").textContent = "")`, nil)
	}

	p.Fill(t, "#publish-key", strings.Repeat("ü", 100))
	p.Click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-key-problem")[0].startsWith("conflate_key ") && document.activeElement.id === "publish-key"`)
	p.Fill(t, "#publish-key", "")
	p.check(t, "#publish-final", false)
	p.check(t, "#publish-retain", false)
	p.Fill(t, "#publish-target", "")
	p.Click(t, "#publish-form [value=everyone]")
}

// check sets a checkbox by clicking it.
func (p consolePage) check(t *testing.T, selector string, on bool) {
	t.Helper()

	var checked bool

	p.Eval(t, `document.querySelector(`+jsonOf(t, selector)+`).checked`, &checked)

	if checked != on {
		p.Click(t, selector)
	}
}
