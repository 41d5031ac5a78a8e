package proxies_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

func broadcast(t *testing.T, d *pealdtest.Daemon, data string) {
	t.Helper()

	if _, err := d.Control(t).Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: data}); err != nil {
		t.Fatal(err)
	}
}

// testUnbuffered publishes each event only after the previous one has arrived, so
// the test fails if the proxy buffers an event until more data follows.
func (f *front) testUnbuffered(t *testing.T, d *pealdtest.Daemon) string {
	t.Helper()

	stream := f.open(t, f.newest())
	if stream.ProtoMajor != int(f.newest()) {
		t.Errorf("the stream is over %s, want HTTP/%d", stream.Proto, f.newest())
	}

	for n := range 5 {
		data := fmt.Sprintf("event %d", n)
		broadcast(t, d, data)
		stream.waitFor(t, "data: "+data)
	}

	_ = stream.Body.Close()

	f.awaitDisconnect(t, d, max(f.detected1, f.detected2))

	return "yes"
}

// testDisconnect measures when the daemon detects a client's disconnect.
func (f *front) testDisconnect(t *testing.T, d *pealdtest.Daemon, v version) string {
	t.Helper()

	want := f.detected1
	if v == http2 {
		want = f.detected2
	}

	stream := f.open(t, v)
	d.WaitForStreams(t, 1)

	_ = stream.Body.Close()

	took := f.awaitDisconnect(t, d, want)
	if *update && took != want {
		t.Errorf("a disconnect over HTTP/%d is detected after %d heartbeats, want %d", v, took, want)
	}

	switch want {
	case 0:
		return "immediately"
	case 1:
		return "with the next heartbeat"
	default:
		return "with the second heartbeat"
	}
}

// awaitDisconnect waits until the daemon holds no stream. If detecting that takes
// heartbeats, it sends events in their place and returns their number.
func (f *front) awaitDisconnect(t *testing.T, d *pealdtest.Daemon, heartbeats int) int {
	t.Helper()

	if heartbeats == 0 {
		d.WaitForStreams(t, 0)

		return 0
	}

	control := d.Control(t)
	detected := func() bool {
		stats, err := control.Stats(t.Context(), &pealv1.StatsRequest{})
		if err != nil {
			t.Fatal(err)
		}

		return stats.GetTotal().GetConnections() == 0
	}

	const maxEvents = 20

	for n := range maxEvents {
		// The proxy detects the disconnect when the client's host rejects a write.
		// Wait for that after each write.
		if testbed.Eventually(time.Second, detected) {
			return n
		}

		broadcast(t, d, "in place of a heartbeat")
	}

	t.Fatalf("a disconnected client is still counted after %d events", maxEvents)

	return maxEvents
}

// testIdle shortens the proxy's timeout for silent streams. The proxy must close a
// stream without heartbeats and keep one with heartbeats.
func (k kind) testIdle(t *testing.T) string {
	t.Helper()

	const timeout = 3 * time.Second

	addr := loopback() + ":18080"
	d := startDaemon(t, addr)
	f := k.start(t, setup{origin: origin, idle: timeout, backends: []string{addr}})

	if !k.noTimeout {
		// Copying ends when the proxy closes the stream or the test times out.
		if _, err := io.Copy(io.Discard, f.open(t, f.newest()).lines); t.Context().Err() != nil {
			t.Fatal(err)
		}
	}

	d.Stop(t)

	d = pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.SSE.Addr = addr
		cfg.SSE.Heartbeat = time.Second
	})
	stream := f.open(t, f.newest())

	for opened := time.Now(); time.Since(opened) < timeout+time.Second; {
		if _, err := stream.nextMark(); err != nil {
			t.Fatalf("the stream with heartbeats was closed: %v", err)
		}
	}

	broadcast(t, d, "still there")
	stream.waitFor(t, "data: still there")

	if k.noTimeout {
		return "no timeout"
	}

	return "kept by heartbeats"
}

// testStatuses checks that the daemon's own statuses pass unchanged.
func (f *front) testStatuses(t *testing.T, d *pealdtest.Daemon) {
	t.Helper()

	banned := strings.TrimPrefix(d.Events(t, "banned"), "http://"+d.SSE)

	_, err := d.Control(t).Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "banned", For: durationpb.New(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}

	foreign := http.Header{"Origin": {"https://elsewhere.example"}, "Cookie": {"a=b"}}

	for _, request := range []struct {
		path   string
		header http.Header
		status int
	}{
		{banned, nil, http.StatusNoContent},
		{"/events?last_event_id=!", nil, http.StatusBadRequest},
		{"/events?access_token=forged", nil, http.StatusUnauthorized},
		{"/events", foreign, http.StatusForbidden},
		{"/events/elsewhere", nil, http.StatusNotFound},
		{"/events", http.Header{"Accept": {"text/html"}}, http.StatusNotAcceptable},
	} {
		got := f.get(t, f.transport(t, f.newest(), ""), request.path, request.header)
		if got.StatusCode != request.status {
			t.Errorf("%s with %v: %s, want %d", request.path, request.header, got.Status, request.status)
		}
	}
}

// testAddresses checks that the daemon gets the clients' addresses, and recognizes
// pages of the same origin by Host.
func (f *front) testAddresses(t *testing.T) {
	t.Helper()

	own := strings.TrimSuffix(f.url(""), "/")

	for _, request := range []struct {
		from   string
		header http.Header
		status int
	}{
		{"127.0.2.1", nil, http.StatusOK},
		{"127.0.2.1", nil, http.StatusTooManyRequests},
		{"127.0.2.1", http.Header{"X-Forwarded-For": {"198.51.100.7"}}, http.StatusTooManyRequests},
		{"127.0.2.2", http.Header{"Origin": {own}, "Cookie": {"a=b"}}, http.StatusOK},
	} {
		got := f.get(t, f.transport(t, f.newest(), request.from), "/events", request.header)
		if got.StatusCode != request.status {
			t.Errorf("a stream from %s with %v: %s, want %d", request.from, request.header, got.Status, request.status)
		}
	}
}

// testDrain shuts down the first daemon while the second one is running, and then
// the second one.
func (f *front) testDrain(t *testing.T, first *pealdtest.Daemon, backends []string) string {
	t.Helper()

	cell := "closed cleanly, resumes on the next daemon"
	stream := f.open(t, f.newest())

	var second *pealdtest.Daemon
	if !f.one {
		second = startDaemon(t, backends[1])
	}

	first.Stop(t)

	rest, err := io.ReadAll(stream.lines)
	if err != nil || !regexp.MustCompile(`(^|\n)retry: \d+\n.*\n?$`).Match(rest) {
		t.Errorf("a stream of a draining daemon ends with %q, %v", rest, err)
	}

	if f.one {
		return "closed cleanly"
	}

	stream = f.open(t, f.newest())
	second.WaitForStreams(t, 1)
	second.Stop(t)

	if rest, err := io.ReadAll(stream.lines); err != nil {
		t.Errorf("a stream of a draining daemon ends with %q, %v", rest, err)
	}

	return cell
}

// testDown sends requests while no daemon is reachable.
func (f *front) testDown(t *testing.T) string {
	t.Helper()

	transport := f.transport(t, f.newest(), "")

	// The proxy's log of this request must not contain the token.
	_, _ = f.try(t, transport, "/events?access_token=secret", nil)

	if f.probed {
		eventually(func() bool {
			_, err := f.try(t, transport, "/events", nil)

			return err == nil
		})
	}

	if !f.answers {
		if got := f.get(t, transport, "/events", nil); got.StatusCode/100 != 5 {
			t.Errorf("without a daemon: %s, want the proxy's own error", got.Status)
		}

		return "an error: browsers give up"
	}

	const long = "k3f9-104100000000000000000"

	requests := []downRequest{
		{nil, "", "retry: 3000"},
		{http.Header{"Origin": {origin}}, origin, "retry: 3000"},
		{http.Header{"Origin": {origin + ".elsewhere.example"}}, "", "retry: 3000"},
		{http.Header{"Origin": {"https://appXexample.org"}}, "", "retry: 3000"},
		{http.Header{"Last-Event-Id": {"k3f9-1041"}}, "", "retry: 3000\nid: k3f9-1041"},
		{http.Header{"Last-Event-Id": {"k3f9-1041, x"}}, "", "retry: 3000"},
		{http.Header{"Last-Event-Id": {"k3f9-1041 data: x"}}, "", "retry: 3000"},
		{http.Header{"Last-Event-Id": {long}}, "", "retry: 3000"},
		{http.Header{"Last-Event-Id": {strings.Repeat("a", 41) + "-1"}}, "", "retry: 3000"},
	}

	// Concurrently, because some proxies retry for a while before they answer.
	var all sync.WaitGroup

	for _, request := range requests {
		all.Go(func() { f.checkDown(t, transport, request) })
	}

	all.Wait()

	if got := f.get(t, transport, "/events", http.Header{"Accept": {"*/*"}}); got.StatusCode/100 != 5 {
		t.Errorf("without a daemon, to a client that doesn't accept event streams: %s, want 502 or 503", got.Status)
	}

	return "200, `retry:`"
}

// downRequest is a request while no daemon is reachable, and the expected response.
type downRequest struct {
	header       http.Header
	origin, body string
}

func (f *front) checkDown(t *testing.T, transport *http.Transport, request downRequest) {
	t.Helper()

	got, err := f.try(t, transport, "/events", request.header)
	if err != nil {
		t.Errorf("without a daemon, to %v: %v", request.header, err)

		return
	}

	body, err := io.ReadAll(got.Body)
	if err != nil {
		t.Errorf("%v: %v", request.header, err)
	}

	want := http.Header{"Content-Type": {"text/event-stream"}, "Cache-Control": {"no-store"}}
	if request.origin != "" {
		want.Set("Access-Control-Allow-Origin", request.origin)
		want.Set("Access-Control-Allow-Credentials", "true")
	}

	header := http.Header{}

	for name := range maps.Keys(got.Header) {
		if want[name] != nil || strings.HasPrefix(name, "Access-Control-") {
			header[name] = got.Header[name]
		}
	}

	if got.StatusCode != http.StatusOK || fmt.Sprint(header) != fmt.Sprint(want) || !strings.Contains(got.Header.Get("Vary"), "Origin") {
		t.Errorf("without a daemon, to %v: %s with %v, want 200 with %v and Vary: Origin", request.header, got.Status, got.Header, want)
	}

	if strings.TrimSpace(string(body)) != request.body || !strings.HasSuffix(string(body), "\n\n") {
		t.Errorf("without a daemon, to %v: %q, want %q", request.header, body, request.body)
	}
}
