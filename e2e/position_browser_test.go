package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

// TestPageThatLoadsItsState opens the page in docs/lossless.md that loads its state and
// then its stream, with events at every moment in between. With SOAK, it opens it in all
// browsers.
func TestPageThatLoadsItsState(t *testing.T) {
	t.Parallel()

	page, err := os.ReadFile("../docs/lossless.md")
	if err != nil {
		t.Fatal(err)
	}

	_, rest, _ := strings.Cut(string(page), "### A page that loads its state\n")
	_, rest, _ = strings.Cut(rest, "```html\n")

	html, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatal("docs/lossless.md has no page in its section on pages that load their state")
	}

	inBrowsers(t, []browsertest.Kind{browsertest.Chromium}, func(t *testing.T, b *browsertest.Browser) {
		t.Helper()
		testPageThatLoadsItsState(t, b, html)
	})
}

func testPageThatLoadsItsState(t *testing.T, b *browsertest.Browser, html string) {
	t.Helper()

	d := pealdtest.Start(t, func(cfg *daemon.Config) { cfg.Auth.AnonymousTopics = []string{"prices.*"} })
	s := &shop{control: d.Control(t), html: html}

	if err := s.setPrice(t.Context()); err != nil {
		t.Fatal(err)
	}

	site := http.NewServeMux()
	events := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: d.SSE})
	events.FlushInterval = -1
	site.Handle("/events", events)
	site.HandleFunc("/position", func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, s.atPosition) })
	site.HandleFunc("/messages", func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, s.atLastMessage) })

	server := httptest.NewServer(site)
	t.Cleanup(server.Close)

	tab := b.NewTab(t)

	// An open stream would keep the server from closing.
	t.Cleanup(func() { tab.Open(t, "about:blank") })

	for path, want := range map[string]string{
		"/position": "%[1]d,%[2]d,%[3]d", // the price that the page was rendered with is in an event too
		"/messages": "%[2]d,%[3]d",
	} {
		tab.Open(t, "about:blank")
		d.WaitForStreams(t, 0)
		tab.Open(t, server.URL+path)
		d.WaitForStreams(t, 1)

		if err := s.setPrice(t.Context()); err != nil {
			t.Fatal(err)
		}

		last := s.price.Load()
		tab.WaitFor(t, fmt.Sprintf(`document.getElementById("price").textContent === "%d"`, last))

		var seen, loaded string

		tab.Eval(t, "seen.join()", &seen)
		tab.Eval(t, "loaded", &loaded)

		if want := fmt.Sprintf(want, last-2, last-1, last); seen != want || loaded != fmt.Sprint(last-2) {
			t.Errorf("%s: the page was loaded with %s and got the events %s; want %d and %s", path, loaded, seen, last-2, want)
		}
	}
}

// shop is a backend with one price. Each change is published.
type shop struct {
	control pealv1.ControlServiceClient
	html    string
	price   atomic.Int64
}

func (s *shop) setPrice(ctx context.Context) error {
	_, err := s.control.Publish(ctx, &pealv1.PublishRequest{Topic: "prices.eur", Data: fmt.Sprint(s.price.Add(1))})
	if err != nil {
		return fmt.Errorf("publishing a price: %w", err)
	}

	return nil
}

// serve renders the page from a state and a position. The price changes again before
// the page is loaded.
func (s *shop) serve(w http.ResponseWriter, r *http.Request, load func(context.Context) (price, position string, err error)) {
	price, position, err := load(r.Context())
	if err == nil {
		err = s.setPrice(r.Context())
	}

	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)

		return
	}

	page := strings.ReplaceAll(s.html, "1.0851", price)
	page = regexp.MustCompile(`last_event_id=[a-z0-9-]+`).ReplaceAllString(page, "last_event_id="+position)

	w.Header().Set("Content-Type", "text/html")
	_, _ = fmt.Fprintf(w, `<!doctype html><meta charset="utf-8"><title>Prices</title>%s<script>
		const seen = [], loaded = document.getElementById("price").textContent;
		events.addEventListener("topic", (e) => seen.push(e.data));
	</script>`, page)
}

// atPosition reads the position and then the price, which changes in between.
func (s *shop) atPosition(ctx context.Context) (price, position string, err error) {
	reply, err := s.control.GetPosition(ctx, &pealv1.GetPositionRequest{})
	if err != nil {
		return "", "", fmt.Errorf("reading the position: %w", err)
	}

	err = s.setPrice(ctx)

	return fmt.Sprint(s.price.Load()), reply.GetId(), err
}

// atLastMessage reads the last message, and the position after it.
func (s *shop) atLastMessage(ctx context.Context) (price, position string, err error) {
	reply, err := s.control.ListMessages(ctx, &pealv1.ListMessagesRequest{
		Audience: &pealv1.ListMessagesRequest_Topic{Topic: "prices.eur"}, Order: "newest", PageSize: 1,
	})

	if err != nil || len(reply.GetMessages()) != 1 {
		return "", "", fmt.Errorf("reading the last message: %v: %w", reply, err)
	}

	return reply.GetMessages()[0].GetData(), reply.GetPosition(), nil
}
