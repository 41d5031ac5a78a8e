package hooks

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	oneSecret   = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	otherSecret = "whsec_b3RoZXIgc2VjcmV0LCBvdGhlciBzZWNyZXQsIG90aGVy"
)

// post sends a request to a server over the real transport.
func post(t *testing.T, to string) (response, error) {
	t.Helper()
	s, err := newSigner(oneSecret + "  " + otherSecret)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient("test")
	defer c.close()
	return c.post(t.Context(), to, s, "message-1", []byte(`{"type":"test"}`))
}

func TestSignatures(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for _, secret := range []string{oneSecret, otherSecret} {
			webhook, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				t.Error(err)
				continue
			}
			if err := webhook.Verify(body, r.Header); err != nil {
				t.Errorf("%s: %v", secret, err)
			}
		}
		w.Header().Set("Retry-After", "7")
		_, _ = io.WriteString(w, "\xff"+strings.Repeat("x", 2000))
	}))
	defer server.Close()

	resp, err := post(t, server.URL)
	if err != nil || !resp.ok() || resp.retryAfter != 7*time.Second || resp.body != "\uFFFD"+strings.Repeat("x", maxExcerpt-1) {
		t.Errorf("response %+v, %v", resp, err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			t.Error("the redirect is followed")
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer server.Close()

	resp, err := post(t, server.URL)
	if err != nil || resp.ok() || resp.err().Error() != "status 307 Temporary Redirect; redirects are not followed" {
		t.Errorf("response %+v, %v", resp, err)
	}
}

func TestCertificatesAreVerified(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request is sent") }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()

	if _, err := post(t, server.URL+"/?key=hidden"); err == nil || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("error %v", err)
	}
}

func TestUnreachableReceiver(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	if _, err := post(t, "http://user:password@"+server.Listener.Addr().String()+"/hidden"); err == nil ||
		!strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "password") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("error %v", err)
	}
}

func TestCallersDeadline(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // of which half a second is kept
	defer cancel()
	s, _ := newSigner(oneSecret)
	c := newClient("test")
	defer c.close()
	if _, err := c.post(ctx, server.URL, s, "1", nil); err == nil || !strings.HasPrefix(err.Error(), "no response within 1.") || ctx.Err() != nil {
		t.Errorf("error %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"12":                            12 * time.Second,
		"120":                           time.Minute,
		"-1":                            0,
		"1.5":                           0,
		"99999999999999999999":          0,
		"soon":                          0,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second,
		"Fri, 02 Jan 2026 03:04:00 GMT": 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}

func TestCheckSecret(t *testing.T) {
	for secret, want := range map[string]string{
		oneSecret:                     "",
		oneSecret + " " + otherSecret: "",
		"":                            "no secret",
		"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=": "a secret without the prefix whsec_",
		"whsec_MDEyMzQ1Njc4OWFiY2RlZjAx=":              "a secret that isn't valid base64",
		"whsec_MDEyMzQ1Njc4OWFiY2RlZg==":               "a secret of 16 bytes",
		"whsec_" + strings.Repeat("MDEy", 22):          "a secret of 66 bytes",
		oneSecret + " whsec_":                          "a secret of 0 bytes",
	} {
		got := ""
		if err := CheckSecret(secret); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: error %q, want %q", secret, got, want)
		}
	}
}

func TestName(t *testing.T) {
	for url, want := range map[string]string{
		"https://app.example/hooks":                           "https://app.example/hooks",
		"https://user:password@app.example:8443/a/b?c=d#e":    "https://app.example:8443/a/b",
		"http://[::1]:8000/%20":                               "http://[::1]:8000/%20",
		"https://app.example?":                                "https://app.example",
		"https://app.example/" + strings.Repeat("ü", 3) + "/": "https://app.example/" + strings.Repeat("%C3%BC", 3) + "/",
	} {
		if got := (Hook{URL: url}).Name(); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}

// TestBatchSize checks the sizes of batches and pages with the longest names, whose
// characters all need escapes.
func TestBatchSize(t *testing.T) {
	var events []event
	var names []key
	for i := range 3000 {
		k := key{kind(i % 2), fmt.Sprint(i, strings.Repeat(`"`, 250))}
		names = append(names, k)
		events = append(events, event{key: k, present: i%3 == 0})
	}
	all := Hook{Events: EventTypes()}
	for done := 0; done < len(events); {
		b := &batch{}
		b.encodeEvents("snapshot", events[done:], time.Now())
		if done += len(b.events); len(b.events) == 0 || len(b.body) > 70<<10 {
			t.Fatalf("a batch of %d events has %d bytes", len(b.events), len(b.body))
		}
	}
	for done, last := 0, false; !last; {
		b := &batch{}
		b.encodePage("snapshot", all, names[done:], time.Now())
		done, last = done+b.names, b.last
		if b.names == 0 || len(b.body) > 70<<10 || last != (done == len(names)) {
			t.Fatalf("a page of %d names has %d bytes, last: %t", b.names, len(b.body), last)
		}
	}
}
