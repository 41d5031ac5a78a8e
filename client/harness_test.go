package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/peald/peald/client"
	"github.com/peald/peald/internal/testbed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testbed.LeftByNATS()...) }

const streamURL = "https://sse.example/events"

// server is a transport that replies with one response after another, and repeats the
// last one. It records the requests and when they were made.
type server struct {
	replies  []reply
	requests []*http.Request
	at       []time.Time
}

// reply is a response, or an error if err is set.
type reply struct {
	status int // 0 for 200
	header http.Header
	body   string
	then   error         // the error after body, instead of io.EOF
	hangs  bool          // nothing follows body
	piece  int           // the most bytes that one Read returns; 0 for all
	after  time.Duration // before the response
	err    error
}

// RoundTrip implements [http.RoundTripper].
func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	reply := s.replies[min(len(s.requests), len(s.replies)-1)]
	s.requests, s.at = append(s.requests, r), append(s.at, time.Now())
	return reply.to(r)
}

func (p reply) to(r *http.Request) (*http.Response, error) {
	select {
	case <-time.After(p.after):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if p.err != nil {
		return nil, p.err
	}

	header := p.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "text/event-stream")
	}
	status := p.status
	if status == 0 {
		status = http.StatusOK
	}
	return &http.Response{
		StatusCode: status, Status: fmt.Sprint(status, " ", http.StatusText(status)), Header: header, Request: r,
		Body: &body{ctx: r.Context(), rest: p.body, then: p.then, hangs: p.hangs, piece: p.piece},
	}, nil
}

// body is the body of a response.
type body struct {
	ctx   context.Context
	rest  string
	then  error
	hangs bool
	piece int
}

func (b *body) Read(p []byte) (int, error) {
	switch {
	case b.ctx.Err() != nil:
		return 0, b.ctx.Err()
	case b.rest != "":
		if b.piece > 0 {
			p = p[:min(len(p), b.piece)]
		}
		n := copy(p, b.rest)
		b.rest = b.rest[n:]
		return n, nil
	case b.hangs:
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	case b.then != nil:
		return 0, b.then
	}
	return 0, io.EOF
}

func (b *body) Close() error { return nil }

// lastEventIDs returns what the requests had as Last-Event-ID.
func (s *server) lastEventIDs() []string {
	var ids []string
	for _, r := range s.requests {
		ids = append(ids, r.Header.Get("Last-Event-ID"))
	}
	return ids
}

// subscribe returns a subscription to the server.
func (s *server) subscribe(tb testing.TB, options ...client.Option) *client.Subscription {
	tb.Helper()
	sub, err := client.Subscribe(tb.Context(), streamURL, append([]client.Option{client.WithHTTPClient(&http.Client{Transport: s})}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return sub
}

// collect returns all events of a stream, as "ID TYPE DATA" with a star for retained
// ones, and the error that ended the iteration.
func collect(sub *client.Subscription) (events []string, err error) {
	for event, err := range sub.Events() {
		if err != nil {
			return events, err
		}
		events = append(events, describe(event))
	}
	return events, nil
}

func describe(e client.Event) string {
	star := ""
	if e.Retained {
		star = "*"
	}
	return strings.Join([]string{star + e.ID, e.Type, e.Data}, " ")
}

var errBroken = errors.New("broken")

// ended returns the reply that ends an iteration.
func ended() reply { return reply{status: http.StatusNoContent} }

func containsAll(text string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}
