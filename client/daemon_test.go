package client_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/peald/peald/client"
	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

func events(d *pealdtest.Daemon) string { return "http://" + d.SSE + "/events" }

// tokensFor returns a token source that asks the daemon, and counts the calls.
func tokensFor(t *testing.T, d *pealdtest.Daemon, ttl time.Duration, calls *atomic.Int32) client.Option {
	control := d.Control(t)
	return client.WithToken(func(ctx context.Context) (string, error) {
		calls.Add(1)
		reply, err := control.CreateToken(ctx, &pealv1.CreateTokenRequest{UserId: "alice", Topics: []string{">"}, Ttl: durationpb.New(ttl)})
		return reply.GetToken(), err
	})
}

func publish(t *testing.T, d *pealdtest.Daemon, topic, data string, change func(*pealv1.PublishRequest)) {
	t.Helper()
	r := &pealv1.PublishRequest{Topic: topic, Data: data}
	if change != nil {
		change(r)
	}
	if _, err := d.Control(t).Publish(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// anonymous returns a change that allows all topics without a token.
func anonymous(cfg *daemon.Config) {
	cfg.Auth.AnonymousTopics = []string{">"}
	cfg.SSE.Retry = 10 * time.Millisecond
}

// TestDaemonStarts subscribes in each way to a topic with a history and a value.
func TestDaemonStarts(t *testing.T) {
	current := func(d *pealdtest.Daemon) client.Option {
		reply, err := d.Control(t).GetPosition(t.Context(), &pealv1.GetPositionRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return client.WithPosition(reply.GetId())
	}
	always := func(options ...client.Option) func(*pealdtest.Daemon) []client.Option {
		return func(*pealdtest.Daemon) []client.Option { return options }
	}
	begin := time.Now().Add(-time.Minute)

	for name, test := range map[string]struct {
		options func(*pealdtest.Daemon) []client.Option
		want    []string // the data of the events until "last", with a star for retained values
	}{
		"now":      {always(), []string{"*0"}},
		"position": {func(d *pealdtest.Daemon) []client.Option { return []client.Option{current(d)} }, nil},
		"all":      {always(client.WithSinceAll()), []string{"*0", "2", "3", "4", "5"}},
		"duration": {always(client.WithSince(time.Hour)), []string{"reset", "*0", "2", "3", "4", "5"}},
		"time":     {always(client.WithSinceTime(begin)), []string{"reset", "*0", "2", "3", "4", "5"}},
		"rewind":   {always(client.WithRewind(2)), []string{"*0", "4", "5"}},
		"unknown":  {always(client.WithPosition("x-1")), []string{"reset", "*0"}},
		"both":     {func(d *pealdtest.Daemon) []client.Option { return []client.Option{client.WithRewind(1), current(d)} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := pealdtest.Start(t, anonymous, func(cfg *daemon.Config) { cfg.History.MaxEvents = 4 })
			publish(t, d, "t", "0", func(r *pealv1.PublishRequest) { r.Retain = true })
			for n := 1; n <= 5; n++ { // the history holds 2 to 5
				publish(t, d, "t", strconv.Itoa(n), nil)
			}

			var got []string
			options := append(test.options(d), client.WithTopics("t"), client.WithOnOpen(func() { publish(t, d, "t", "last", nil) }))
			sub, err := client.Subscribe(t.Context(), events(d), options...)
			if err != nil {
				t.Fatal(err)
			}
			for event, err := range sub.Events() {
				if err != nil {
					t.Fatal(err)
				}
				if event.Data == "last" {
					break
				}
				switch {
				case event.Reset != nil:
					got = append(got, "reset")
				case event.Retained:
					got = append(got, "*"+event.Data)
				default:
					got = append(got, event.Data)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestDaemonEnd follows a topic to its end, over each engine.
func TestDaemonEnd(t *testing.T) {
	pealdtest.OnEachEngine(t, func(t *testing.T, engine func(*daemon.Config)) {
		d := pealdtest.Start(t, anonymous, engine)
		publish(t, d, "answer", "Hello", nil)
		sub, err := client.Subscribe(t.Context(), events(d), client.WithTopics("answer"), client.WithSinceAll())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for event, err := range sub.Events() {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, event.Data); len(got) == 1 {
				publish(t, d, "answer", "world", func(r *pealv1.PublishRequest) { r.Final = true })
			}
			if event.End != nil && event.End.Topic != "answer" {
				t.Errorf("end %+v", event.End)
			}
		}
		if want := []string{"Hello", "world", `{"topic":"answer"}`}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestDaemonRestarts restarts a daemon whose history survives while events are
// published. The client gets each of them once and in order.
func TestDaemonRestarts(t *testing.T) {
	address := testbed.FreeAddrs(t, 2)
	dir := t.TempDir()
	start := func() *pealdtest.Daemon {
		d := pealdtest.Start(t, anonymous, func(cfg *daemon.Config) {
			cfg.SSE.Addr = address[0]
			cfg.Cluster.Mode, cfg.Cluster.Dir, cfg.Cluster.Addr = daemon.ClusterEmbedded, dir, address[1]
			cfg.Cluster.Sync = false
			cfg.Drain.Timeout = 200 * time.Millisecond
		})
		d.WaitUntilReady(t)
		return d
	}

	const restarts, each = 3, 10
	d := start()
	sub, err := client.Subscribe(t.Context(), events(d), client.WithTopics("t"), client.WithBackoff(time.Millisecond, 50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan struct{}, 1)
	publish(t, d, "t", "value", func(r *pealv1.PublishRequest) { r.Retain = true })

	published := make(chan struct{})
	go func() {
		defer close(published)
		<-opened
		for n := range restarts * each {
			publish(t, d, "t", strconv.Itoa(n), nil)
			if n%each == each/2 {
				d.Stop(t)
				d = start()
			}
		}
	}()

	next := 0
	for event, err := range sub.Events() {
		if err != nil {
			t.Error(err)
			break
		}
		if event.Retained {
			opened <- struct{}{}
			continue
		}
		if event.Data != strconv.Itoa(next) {
			t.Errorf("got %q %q, want %d", event.Type, event.Data, next)
			break
		}
		if next++; next == restarts*each {
			break
		}
	}
	<-published
}

// TestDaemonTokens closes streams whose token expires. The client gets new tokens, and
// all events.
func TestDaemonTokens(t *testing.T) {
	d := pealdtest.Start(t, func(cfg *daemon.Config) { cfg.SSE.Retry = 10 * time.Millisecond })
	var calls, expired atomic.Int32
	expired.Store(1)
	fresh := tokensFor(t, d, time.Hour, &calls)
	sub, err := client.Subscribe(t.Context(), events(d), client.WithTopics("t"), fresh, client.WithHTTPClient(&http.Client{Transport: forging{&expired}}))
	if err != nil {
		t.Fatal(err)
	}

	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	ready := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ready
		for n := range 3 {
			d.WaitForStreams(t, 1)
			expired.Store(1) // the next request has an expired token
			if _, err := d.Control(t).Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "alice"}); err != nil {
				t.Error(err)
			}
			publish(t, d, "t", strconv.Itoa(n), nil)
		}
	}()

	close(ready)
	next := 0
	for event, err := range sub.Events() {
		if err != nil || event.Data != strconv.Itoa(next) {
			t.Errorf("got %q, error %v, want %d", event.Data, err, next)
			break
		}
		if next++; next == 3 {
			break
		}
	}
	<-done
	if n := calls.Load(); n < 2 {
		t.Errorf("%d tokens were used, want several", n)
	}
}

// forging is a transport that spoils the token of one request if it is asked to.
type forging struct{ next *atomic.Int32 }

func (f forging) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.next.CompareAndSwap(1, 0) {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer expired")
	}
	return http.DefaultTransport.RoundTrip(r)
}

// TestDaemonRejects checks the errors for requests that a daemon rejects.
func TestDaemonRejects(t *testing.T) {
	d := pealdtest.Start(t)
	for _, test := range []struct {
		options []client.Option
		want    string
	}{
		{[]client.Option{client.WithTopics("secret")}, "403 Forbidden"},
		{[]client.Option{client.WithHeader(http.Header{"Authorization": {"Bearer x"}})}, "401 Unauthorized"},
		{[]client.Option{client.WithTopics("a.>.b")}, "400 Bad Request"},
	} {
		sub, err := client.Subscribe(t.Context(), events(d), test.options...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := collect(sub); err == nil || !containsAll(err.Error(), test.want, events(d)) {
			t.Errorf("error %v, want %s", err, test.want)
		}
	}
}

// TestDaemonOverTLS reads events over HTTP/2, which compresses them.
func TestDaemonOverTLS(t *testing.T) {
	certificate := testbed.NewCertificate(t)
	d := pealdtest.Start(t, anonymous, pealdtest.OverTLS(certificate))
	transport := &http.Transport{TLSClientConfig: certificate.Client(), ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	sub, err := client.Subscribe(t.Context(), fmt.Sprintf("https://%s/events", d.SSE), client.WithTopics("t"), client.WithHTTPClient(&http.Client{Transport: transport}),
		client.WithOnOpen(func() {
			for n := range 20 {
				publish(t, d, "t", dataOf(n), nil)
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	next := 0
	for event, err := range sub.Events() {
		if err != nil || event.Data != dataOf(next) {
			t.Fatalf("got %q, error %v, want %q", event.Data, err, dataOf(next))
		}
		if next++; next == 20 {
			break
		}
	}

	// A certificate that isn't trusted is permanent.
	sub, err = client.Subscribe(t.Context(), fmt.Sprintf("https://%s/events", d.SSE))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := collect(sub); err == nil || !containsAll(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("error %v", err)
	}
}

// TestDaemonLargeEvent reads the largest event.
func TestDaemonLargeEvent(t *testing.T) {
	d := pealdtest.Start(t, anonymous)
	data := dataOf(49) + string(make([]byte, 1<<20-200))
	sub, err := client.Subscribe(t.Context(), events(d), client.WithTopics("t"), client.WithOnOpen(func() { publish(t, d, "t", data, nil) }))
	if err != nil {
		t.Fatal(err)
	}
	for event, err := range sub.Events() {
		if err != nil || event.Data != data {
			t.Fatalf("got %d bytes, error %v, want %d", len(event.Data), err, len(data))
		}
		break
	}
}
