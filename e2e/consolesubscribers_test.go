package e2e_test

import (
	"testing"

	"github.com/peald/peald/internal/pealdtest"
)

// testSubscribers shows who subscribes to a topic and to a pattern, while streams open
// and close.
func (p consolePage) testSubscribers(t *testing.T, d *pealdtest.Daemon) {
	t.Helper()

	wantUsers := func(t *testing.T, users string) {
		t.Helper()
		p.waitUntil(t, `all("#subscribers-dialog tbody .key").join() === `+jsonOf(t, users))
	}

	p.act(t, "#topics tr[data-key=news]", "subscribers")
	p.waitUntil(t, `all("#subscribers-title")[0] === "Subscribers of news" && document.activeElement.id === "subscribers-close"`)
	wantUsers(t, "alice")
	p.waitUntil(t, `all("#subscribers-dialog .found", "#subscribers-dialog tbody .number").join() === "1 to 1,1"`)
	t.Run("other streams", func(t *testing.T) {
		listen(t, d, "zoë", "*", "news")
		listen(t, d, "", "news")
		wantUsers(t, "alice,zoë")
		p.waitUntil(t, `all("#subscribers-others")[0] === "1 stream without a user"`)
	})
	wantUsers(t, "alice")
	p.waitUntil(t, `all("#subscribers-others")[0] === ""`)
	p.Click(t, "#subscribers-close")
	p.waitUntil(t, `!document.getElementById("subscribers-dialog").open`)
	// The event that stops the updates follows with the next frame.
	p.Await(t, `new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)))`, nil)

	p.act(t, "#topics tr[data-key='orders.*']", "subscribers")
	p.waitUntil(t, `all("#subscribers-title")[0] === "Subscribers of orders.*" && all("#subscribers-dialog .found")[0] === "1 to 10, more available"`)
	p.Fill(t, "#subscribers-search", "user-2")
	wantUsers(t, "user-20,user-21,user-22,user-23,user-24")
	p.waitUntil(t, `((dialog) => dialog.scrollWidth <= dialog.clientWidth)(document.getElementById("subscribers-dialog"))`)
	p.Click(t, "#subscribers-close")
	p.waitUntil(t, `!document.getElementById("subscribers-dialog").open`)
}
