package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
)

func TestMain(m *testing.M) { os.Exit(browsertest.Main(m)) }

// inBrowsers runs a test in Chromium, and with SOAK in all browsers, as parallel subtests.
func inBrowsers(t *testing.T, test func(t *testing.T, b *browsertest.Browser)) {
	t.Helper()

	if os.Getenv("SOAK") != "" {
		browsertest.Each(t, test)

		return
	}

	t.Run(string(browsertest.Chromium), func(t *testing.T) {
		t.Parallel()
		test(t, browsertest.Start(t, browsertest.Chromium))
	})
}

// TestAnswer watches one answer in two tabs: from its question, through a reload and
// broken connections, to its end and after it. Both tabs must display what the model
// has generated.
func TestAnswer(t *testing.T) {
	t.Parallel()
	inBrowsers(t, testAnswer)
}

func testAnswer(t *testing.T, b *browsertest.Browser) {
	t.Helper()

	s := newSite(t)
	durable := inDirectory(t.TempDir())
	s.startDaemon(t, durable)

	first := answerPage{b.Open(t, s.pages.URL)}
	a := s.ask(t, first, `Is "1 < 2" & true?`)

	a.generate(t, "It", " is,", "\n\n", " <b>obviously</b> &amp;", " très vrai 😀.")
	first.wants(t, a)

	// In mid-generation, a second tab and a reload replay what the model has generated so far.
	second := answerPage{b.Open(t, s.answerURL(a))}
	second.wants(t, a)
	first.Reload(t)
	first.wants(t, a)

	a.generate(t, " And", " so", " on.")
	first.wants(t, a)
	second.wants(t, a)

	// The network is down for a while: the connections break, and new ones are refused.
	s.network.stop(t)
	first.WaitFor(t, stateIs("reconnecting"))
	second.WaitFor(t, stateIs("reconnecting"))
	a.generate(t, " Meanwhile,", " the", " model", " carries", " on.")
	s.network.start(t)
	first.wants(t, a)
	second.wants(t, a)

	// Connections break while words are arriving.
	for i := range 60 {
		a.generate(t, fmt.Sprintf(" %d", i))

		if i%20 == 10 {
			s.network.stop(t)
			s.network.start(t)
		}
	}

	first.wants(t, a)
	second.wants(t, a)

	// The daemon is restarted. Its history is on disk.
	s.daemon.Stop(t)
	s.startDaemon(t, durable)
	a.generate(t, " There", " was", " a", " restart.")
	first.wants(t, a)
	second.wants(t, a)

	a.stop()

	for _, page := range []answerPage{first, second} {
		page.wantsEnd(t, a, "done", fmt.Sprintf("Done · %d words", len(a.generated)))
	}

	// After the end, each page that opens makes two requests: one for the answer, and one
	// that gets a 204. If a page that is complete made any, they would be counted here.
	made := s.network.requests(a.topic)
	third := answerPage{b.NewTab(t)}

	for i, open := range []func(){
		func() { first.Reload(t) },
		func() { second.Reload(t) },
		func() { third.Open(t, s.answerURL(a)) },
	} {
		open()

		page := []answerPage{first, second, third}[i]
		page.wantsEnd(t, a, "done", fmt.Sprintf("Done · %d words", len(a.generated)))

		made = append(made, http.StatusOK, http.StatusNoContent)
		if got := s.network.requests(a.topic); fmt.Sprint(got) != fmt.Sprint(made) {
			t.Errorf("after opening %d complete pages, the responses were %v, want %v", i+1, got, made)
		}
	}

	if asked := s.questions.Load(); asked != 1 {
		t.Errorf("the model was asked %d times, want once", asked)
	}

	// The pages don't show whether a word was published twice under different ids.
	messages, err := s.daemon.Control(t).ListMessages(t.Context(), &pealv1.ListMessagesRequest{
		Audience: &pealv1.ListMessagesRequest_Topic{Topic: a.topic}, PageSize: 1000,
	})
	if want := 1 + len(a.generated) + 1; err != nil || len(messages.GetMessages()) != want {
		t.Errorf("the topic has %d messages, %v, want %d", len(messages.GetMessages()), err, want)
	}
}

// TestGaps shows pages that can't show a whole answer, and that they report it.
func TestGaps(t *testing.T) {
	t.Parallel()
	inBrowsers(t, testGaps)
}

func testGaps(t *testing.T, b *browsertest.Browser) {
	t.Helper()

	s := newSite(t)
	s.startDaemon(t)

	page := answerPage{b.Open(t, s.pages.URL)}
	a := s.ask(t, page, "What was first?")
	a.generate(t, "The", " egg")
	page.wants(t, a)

	// The next process has another history, but the backend carries on.
	s.daemon.Stop(t)
	page.WaitFor(t, stateIs("reconnecting"))
	s.startDaemon(t)
	a.generated = nil // the history with these words is gone
	a.generate(t, " or", " the", " hen.")
	page.WaitFor(t, noticeHas("no longer holds the beginning"))
	page.wants(t, a)

	// If the backend is stopped, the answer ends.
	s.shutDown()
	page.wantsEnd(t, a, "interrupted", "Interrupted · 3 words")

	stranger := answerPage{b.Open(t, s.pages.URL+"/?answer=unknown")}
	stranger.WaitFor(t, noticeHas("doesn't hold this answer"))
	stranger.WaitFor(t, stateIs("waiting"))
}

// TestForgotten opens an answer that has ended and whose events are too old.
func TestForgotten(t *testing.T) {
	t.Parallel()
	inBrowsers(t, testForgotten)
}

func testForgotten(t *testing.T, b *browsertest.Browser) {
	t.Helper()

	s := newSite(t)
	s.startDaemon(t, func(cfg *daemon.Config) { cfg.History.MaxAge = 10 * time.Millisecond })

	status, location := s.post(t, "Who are you?")
	if status != http.StatusSeeOther {
		t.Fatalf("asking: %d %s", status, location)
	}

	a := s.answer(t, location)
	a.generate(t, "I", " forget.")
	a.stop()
	wantNoMessages(t, s.daemon, a.topic)

	page := answerPage{b.Open(t, s.answerURL(a))}
	page.WaitFor(t, noticeHas("no longer holds this answer"))
	page.WaitFor(t, stateIs("forgotten"))
	page.WaitFor(t, "events.readyState === EventSource.CLOSED")
}

// TestAsk sends questions that are rejected.
func TestAsk(t *testing.T) {
	t.Parallel()

	s := newSite(t)

	if status, reason := s.post(t, ""); status != http.StatusBadRequest || !strings.Contains(reason, "0 bytes long; want 1 to 2000") {
		t.Errorf("an empty question: %d %s", status, reason)
	}

	if status, reason := s.post(t, strings.Repeat("ü", 1001)); status != http.StatusBadRequest || !strings.Contains(reason, "2002 bytes long; want 1 to 2000") {
		t.Errorf("a long question: %d %s", status, reason)
	}

	if status, _ := s.post(t, "Hello?", "Origin", "https://example.com"); status != http.StatusForbidden {
		t.Errorf("a question from another site: %d, want 403", status)
	}

	if status, reason := s.post(t, "Hello?"); status != http.StatusBadGateway || !strings.Contains(reason, "publish the question: ") {
		t.Errorf("a question without a daemon: %d %s", status, reason)
	}

	if asked := s.questions.Load(); asked != 0 {
		t.Errorf("the model was asked %d times, want never", asked)
	}
}
