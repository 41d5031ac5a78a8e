package e2e_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

// listener holds a stream and records the received lines.
type listener struct {
	mu    sync.Mutex
	text  strings.Builder
	grown chan struct{} // signals that text has grown
}

// listen opens a stream that is closed when the test ends.
func listen(t *testing.T, d *pealdtest.Daemon, user string, topics ...string) *listener {
	t.Helper()

	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))

	var subscribe []string
	for _, topic := range topics {
		subscribe = append(subscribe, "topic", topic)
	}

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, with(d.Events(t, ""), subscribe...), nil)
	if err != nil {
		t.Fatal(err)
	}

	if user != "" {
		reply, err := d.Control(t).CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: user, Topics: topics})
		if err != nil {
			t.Fatal(err)
		}

		request.Header.Set("Authorization", "Bearer "+reply.GetToken())
	}

	transport := &http.Transport{}

	reply, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}

	if reply.StatusCode != http.StatusOK {
		t.Fatalf("a stream for %q: %s", user, reply.Status)
	}

	l := &listener{grown: make(chan struct{}, 1)}

	var reading sync.WaitGroup

	reading.Go(func() {
		defer func() { _ = reply.Body.Close() }()

		for lines := bufio.NewScanner(reply.Body); lines.Scan(); {
			l.mu.Lock()
			l.text.WriteString(lines.Text() + "\n")
			l.mu.Unlock()

			select {
			case l.grown <- struct{}{}:
			default:
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		reading.Wait()
		transport.CloseIdleConnections()
	})

	return l
}

// waitFor waits until the stream has received text.
func (l *listener) waitFor(t *testing.T, text string) {
	t.Helper()

	for {
		l.mu.Lock()
		got := l.text.String()
		l.mu.Unlock()

		if strings.Contains(got, text) {
			return
		}

		select {
		case <-l.grown:
		case <-time.After(patience):
			t.Fatalf("%q wasn't received, only %q", text, got)
		}
	}
}

// count returns how many events the stream has received whose data is text.
func (l *listener) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()

	return strings.Count(l.text.String(), "data: "+text+"\n")
}
