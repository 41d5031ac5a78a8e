package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

func TestMain(m *testing.M) { os.Exit(browsertest.Main(m)) }

// TestAnswers watches an answer in three browsers: through reloads, in a second tab,
// without a network for a while, and after its end.
func TestAnswers(t *testing.T) {
	browsertest.Each(t, func(t *testing.T, b *browsertest.Browser) {
		t.Helper()

		var requests, down atomic.Int64
		var app *httptest.Server
		d := pealdtest.Start(t, func(cfg *daemon.Config) {
			cfg.Auth.AnonymousTopics = []string{"answers.*"}
			cfg.SSE.Retry = 50 * time.Millisecond
		})
		proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: d.SSE})
		proxy.FlushInterval = -1
		var answers http.Handler
		app = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path != "/events":
				answers.ServeHTTP(w, r)
			case down.Load() > 0:
				panic(http.ErrAbortHandler)
			default:
				requests.Add(1)
				proxy.ServeHTTP(w, r)
			}
		}))
		t.Cleanup(func() { app.CloseClientConnections(); app.Close() })
		answers = newApp(d.URL(""), app.URL+"/events", 10*time.Millisecond)

		const question = "Why is the sky blue?"
		whole := strings.Join(words(question), "")
		tab := b.Open(t, app.URL)
		tab.Fill(t, "input", question)
		tab.Click(t, "button")
		has := func(part string) string { return `document.getElementById("answer").textContent.length > ` + part }
		tab.WaitFor(t, has("20"))

		tab.Reload(t)
		tab.WaitFor(t, has("40"))

		var address string
		tab.Eval(t, "location.href", &address)
		second := b.Open(t, address)
		second.WaitFor(t, has("60"))

		down.Add(1)
		app.CloseClientConnections()
		time.AfterFunc(100*time.Millisecond, func() { down.Add(-1) })

		done := `document.getElementById("card").dataset.state === "done"`
		for name, page := range map[string]*browsertest.Tab{"first": tab, "second": second} {
			page.WaitFor(t, done)
			var text string
			if page.Eval(t, `document.getElementById("answer").textContent`, &text); text != whole {
				t.Errorf("the %s tab shows %q, want %q", name, text, whole)
			}
		}

		// After the end, a page shows the whole answer, and stops asking.
		tab.Reload(t)
		tab.WaitFor(t, done)
		var text string
		if tab.Eval(t, `document.getElementById("answer").textContent`, &text); text != whole {
			t.Errorf("after a reload, the tab shows %q, want %q", text, whole)
		}
		tab.WaitFor(t, `events.readyState === EventSource.CLOSED`)
		second.WaitFor(t, `events.readyState === EventSource.CLOSED`)
		// An answer whose first words have left the history isn't shown as complete.
		last := encode(message{Data: encode(word{7, "end."}), Final: true})
		if !publish(d.URL("")+"/v1/topics/answers.old/messages", last) {
			t.Fatal("cannot publish")
		}
		tab.Open(t, app.URL+"/?answer=old")
		tab.WaitFor(t, `document.getElementById("card").dataset.state === "incomplete" && events.readyState === EventSource.CLOSED`)
		if asked := requests.Load(); asked == 0 {
			t.Error("the pages have opened no stream")
		}
	})
}
