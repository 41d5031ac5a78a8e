package e2e_test

import "testing"

// testSeveralTopics publishes to several topics, and to all but one user, and looks at
// the messages in the live tail.
func (p consolePage) testSeveralTopics(t *testing.T, alice *listener) {
	t.Helper()
	p.Eval(t, `((select) => { select.value = "all"; select.dispatchEvent(new Event("change")); })(document.getElementById("tail-of"))`, nil)
	p.waitUntil(t, `all("#tail-state")[0] === "following"`)

	// A problem with one of the topics names its line.
	p.Click(t, "#publish-form [value=topic]")
	p.Fill(t, "#publish-target", "orders.7")
	p.Fill(t, "#publish-topics", "room 1, left\n\norders.*")
	p.Fill(t, "#publish-data", "to three topics")
	p.Click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-topics-problem")[0].startsWith('line 3 is the pattern "orders.*"') && document.activeElement.id === "publish-topics"`)

	// A stream that subscribes to several of them gets the event once.
	p.Fill(t, "#publish-topics", "room 1, left\n\norders.8\n")
	p.Click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-result")[0].startsWith("Sent to 26 streams as ") && all("#publish-topics-problem")[0] === ""`)
	p.waitUntil(t, `all("#tail-list .badge")[0] === "topic · to topics orders.7, room 1, left, orders.8" && all("#tail-list .text")[0] === "to three topics"`)

	p.Fill(t, "#publish-exclude", "alice")
	p.Fill(t, "#publish-data", "not to alice")
	p.Click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-result")[0].startsWith("Sent to 25 streams as ")`)
	p.waitUntil(t, `all("#tail-list .badge")[0] === "topic · to topics orders.7, room 1, left, orders.8 except user alice"`)

	// A message to a user excludes none. The fields keep their values meanwhile.
	p.Click(t, "#publish-form [value=user]")
	p.waitUntil(t, `["topics", "exclude"].every((name) => document.getElementById("publish-" + name + "-field").hidden)`)
	p.Fill(t, "#publish-target", "user-00")
	p.Fill(t, "#publish-data", "to one user")
	p.Click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-result")[0].startsWith("Sent to 1 stream as ")`)

	p.Click(t, "#publish-form [value=everyone]")
	p.waitUntil(t, `document.getElementById("publish-topics-field").hidden && document.getElementById("publish-exclude").value === "alice"`)
	p.Fill(t, "#publish-data", "to everyone else")
	p.Click(t, "#publish-form [type=submit]")
	p.waitUntil(t, `all("#publish-result")[0].startsWith("Sent to 26 streams as ")`)
	p.waitUntil(t, `all("#tail-list .badge")[0] === "broadcast · to everyone except user alice"`)

	p.Fill(t, "#publish-exclude", "")
	p.Fill(t, "#publish-data", "to everyone")
	p.Click(t, "#publish-form [type=submit]")
	alice.waitFor(t, "data: to everyone\n")

	for text, want := range map[string]int{"to three topics": 1, "not to alice": 0, "to everyone else": 0} {
		if got := alice.count(text); got != want {
			t.Errorf("alice received %q %d times, want %d", text, got, want)
		}
	}

	// A row's button prepares the form for that row alone.
	p.Fill(t, "#publish-exclude", "alice")
	p.act(t, "#topics tr[data-key=news]", "send")
	p.waitUntil(t, `["topics", "exclude"].every((name) => document.getElementById("publish-" + name).value === "")`)
	p.Click(t, "#tail-toggle")
	p.waitUntil(t, `all("#tail-toggle")[0] === "Follow"`)
}
