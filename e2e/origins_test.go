package e2e_test

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

// site is a web application with its own origin. It shares its cookies with the
// daemon, which listens on another port on the same host.
func site(t *testing.T) *httptest.Server {
	t.Helper()

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if token := query.Get("token"); token != "" {
			http.SetCookie(w, &http.Cookie{Name: "peald_token", Value: token, Path: "/", HttpOnly: true})
		}

		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<body data-events="%s"><script>
			const state = (word) => document.body.dataset.state = word;
			const events = document.body.dataset.events;
			if (%t) {
				const image = new Image();
				image.onerror = () => state("closed");
				image.src = events;
			} else {
				const source = new EventSource(events, {withCredentials: true});
				source.onopen = () => state("open");
				source.onerror = () => state(source.readyState === EventSource.CLOSED ? "closed" : "connecting");
				source.addEventListener("individual", (event) => state(event.data));
			}
		</script>`, html.EscapeString(query.Get("events")), query.Has("image"))
	}))
	t.Cleanup(server.Close)

	return server
}

// TestOriginsInABrowser opens streams with a user's cookie from pages of two
// origins, one of which is allowed.
func TestOriginsInABrowser(t *testing.T) {
	t.Parallel()
	browsertest.Each(t, func(t *testing.T, b *browsertest.Browser) {
		allowed, foreign := site(t), site(t)
		d := pealdtest.Start(t, func(cfg *daemon.Config) { cfg.SSE.AllowedOrigins = []string{allowed.URL} })
		control := d.Control(t)

		token, err := control.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: "alice"})
		if err != nil {
			t.Fatal(err)
		}

		query := "/?events=" + d.Events(t, "")

		page := b.Open(t, allowed.URL+query+"&token="+token.GetToken())
		page.WaitFor(t, `document.body.dataset.state === "open"`)

		sent, err := control.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Data: "for alice"})
		if err != nil || sent.GetRecipients() != 1 {
			t.Fatalf("sent to %d of alice's streams (%v), want 1", sent.GetRecipients(), err)
		}

		page.WaitFor(t, `document.body.dataset.state === "for alice"`)

		stranger := b.NewTab(t)

		for n, page := range []string{query, query + "&image"} {
			stranger.Open(t, foreign.URL+page)
			stranger.WaitFor(t, `document.body.dataset.state === "closed"`)

			resp, err := http.Get(d.URL("/metrics"))
			if err != nil {
				t.Fatal(err)
			}

			metrics, err := io.ReadAll(resp.Body)
			resp.Body.Close()

			if want := fmt.Sprintf("\npeald_refused_total{reason=\"origin\"} %d\n", n+1); err != nil || !strings.Contains(string(metrics), want) {
				t.Errorf("%s: the metrics lack %s (%v)", page, want, err)
			}
		}

		d.WaitForStreams(t, 1)
	})
}
