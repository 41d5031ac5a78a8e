package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// takeover is the time within which long polling must take over where streams don't get
// through. The tests only log how long it takes, since a busy machine may need longer.
const takeover = 20 * time.Second

// clientScenario is something that happens to a client in each browser at once.
type clientScenario struct {
	name    string
	url     string // of the stream
	options map[string]any
	run     func(t *testing.T, clients []*pageClient)
}

// TestJavaScriptClientInBrowsers runs clients in browsers while tokens expire, daemons
// and nodes are killed, and proxies hold everything back. In each browser, one page has
// the clients for all scenarios. Every event must arrive once and in order, with its
// topic, audience and time.
//
// With SOAK, the network is cut for 20 s, and the client expects heartbeats at the usual
// interval. Otherwise both take a fraction of that.
func TestJavaScriptClientInBrowsers(t *testing.T) {
	t.Parallel()

	kinds := browsertest.Installed(t)
	site := newClientSite(t)
	d := pealdtest.Start(t, site.allow)
	scenarios := []clientScenario{
		tokenRenewed(t, site), daemonKilled(t, site), nodeKilled(t, site), networkCut(t, site),
		heldBack(t, site, "everything", holdAll), heldBack(t, site, "all but the first block", holdRest),
	}

	clients := map[string][]*pageClient{}

	for _, kind := range kinds {
		page := site.open(t, browsertest.Start(t, kind), d, "page")
		for _, s := range scenarios {
			clients[s.name] = append(clients[s.name], page.start(t, s.name, s.url, s.options))
		}
	}

	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(t, clients[s.name])
		})
	}
}

// feedToken returns a token for feedUser and all topics.
func feedToken(t *testing.T, control pealv1.ControlServiceClient, ttl time.Duration) string {
	t.Helper()

	reply, err := control.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: feedUser, Topics: []string{">"}, Ttl: durationpb.New(ttl)})
	if err != nil {
		t.Fatal(err)
	}

	return reply.GetToken()
}

// feedOptions returns the options of a client that receives a feed.
func feedOptions(t *testing.T, control pealv1.ControlServiceClient) map[string]any {
	t.Helper()

	return map[string]any{"topics": feedTopics(), "token": feedToken(t, control, time.Hour)}
}

// tokenRenewed returns a scenario in which the first token expires before there is any
// event. The client must replace the stream before that.
func tokenRenewed(t *testing.T, site *clientSite) clientScenario {
	t.Helper()

	d := pealdtest.Start(t, site.allow, func(cfg *daemon.Config) { cfg.Auth.Anonymous = false })
	f := &feed{control: d.Control(t)}

	const name = "token renewal"

	site.handOut(name, func(n int) string {
		if n == 1 {
			return feedToken(t, f.control, 8*time.Second)
		}

		return feedToken(t, f.control, time.Hour)
	})

	return clientScenario{name, "http://" + d.SSE + "/events", map[string]any{"topics": feedTopics(), "fetchesToken": true}, func(t *testing.T, clients []*pageClient) {
		t.Helper()

		for _, c := range clients {
			c.await(t, "second token", func() bool { return c.tokens == 2 })
		}

		f.publish(t, 8)
		waitForConnected(t, d, 2*len(clients))
		d.WaitForStreams(t, int32(len(clients)))
		f.publish(t, 8)

		for _, c := range clients {
			c.want(t, f.events())
			c.await(t, "unchanged state", func() bool { return len(c.states) == 2 && c.tokens == 2 })
		}
	}}
}

// waitForConnected waits until a daemon has opened n streams since its start.
func waitForConnected(t *testing.T, d *pealdtest.Daemon, n int) {
	t.Helper()

	control := d.Control(t)

	if !testbed.Eventually(patience, func() bool {
		stats, err := control.Stats(t.Context(), &pealv1.StatsRequest{})
		if err != nil {
			t.Fatal(err)
		}

		return stats.GetTotal().GetConnected() >= int64(n)
	}) {
		t.Fatalf("%d streams weren't opened", n)
	}
}

// daemonKilled returns a scenario in which the daemon is killed and restarted. Its event
// log survives, so the client misses nothing.
func daemonKilled(t *testing.T, site *clientSite) clientScenario {
	t.Helper()

	p := startProcess(t, "--sse.allowed_origins", site.URL)
	f := &feed{control: p.control}

	return clientScenario{"daemon killed", "http://" + p.sse + "/events", feedOptions(t, p.control), func(t *testing.T, clients []*pageClient) {
		t.Helper()

		for _, c := range clients {
			c.awaitState(t, "open")
		}

		f.publish(t, 8)

		for _, c := range clients {
			c.want(t, f.events())
		}

		p.end(syscall.SIGKILL)

		for _, c := range clients {
			c.await(t, "loss of the connection", func() bool { return c.states[len(c.states)-1].name != "open" })
		}

		p.start(t)
		f.publish(t, 8)

		for _, c := range clients {
			c.want(t, f.events())
		}
	}}
}

// nodeKilled returns a scenario in which a node of a cluster is killed. A proxy forwards
// connections to the first node that runs.
func nodeKilled(t *testing.T, site *clientSite) clientScenario {
	t.Helper()

	nodes := startProcesses(t, 3, "--sse.allowed_origins", site.URL)
	front := startProxy(t, func() (conn net.Conn, err error) {
		for _, node := range nodes {
			if conn, err = new(net.Dialer).DialContext(context.Background(), "tcp", node.sse); err == nil {
				break
			}
		}

		return conn, err
	})
	f := &feed{control: nodes[1].control}

	return clientScenario{"node killed", "http://" + front.addr + "/events", feedOptions(t, f.control), func(t *testing.T, clients []*pageClient) {
		t.Helper()

		for _, c := range clients {
			c.awaitState(t, "open")
		}

		stop := f.flow(t, 100*time.Millisecond)
		defer stop()

		for _, c := range clients {
			c.await(t, "event", func() bool { return len(c.events) > 4 })
		}

		nodes[0].end(syscall.SIGKILL)

		killed := time.Now()

		for _, c := range clients {
			c.awaitEventAfter(t, killed)
		}

		stop()

		for _, c := range clients {
			c.want(t, f.events())
			t.Logf("%v: the first event that was published after the end of the node arrived after %s", c, c.firstAfter(killed).Sub(killed))
		}
	}}
}

// networkCut returns a scenario in which nothing gets through for a while, without a
// connection being closed. Afterwards, the connections from before don't work.
func networkCut(t *testing.T, site *clientSite) clientScenario {
	t.Helper()

	cut, heartbeat := 20*time.Second, daemon.Defaults().SSE.Heartbeat
	if os.Getenv("SOAK") == "" {
		cut, heartbeat = 8*time.Second, 2*time.Second
	}

	d := pealdtest.Start(t, site.allow, func(cfg *daemon.Config) { cfg.SSE.Heartbeat = heartbeat })
	tunnel := newProxy(t, d.SSE)
	f := &feed{control: d.Control(t)}
	options := feedOptions(t, f.control)
	options["heartbeat"], options["firstByte"], options["probe"] = heartbeat.Milliseconds(), heartbeat.Milliseconds(), heartbeat.Milliseconds()

	return clientScenario{"network cut", "http://" + tunnel.addr + "/events", options, func(t *testing.T, clients []*pageClient) {
		t.Helper()

		for _, c := range clients {
			c.awaitState(t, "open")
		}

		f.publish(t, 8)

		for _, c := range clients {
			c.want(t, f.events())
		}

		tunnel.mute()
		f.publish(t, 8)

		over := time.NewTimer(cut)
		defer over.Stop()
		<-over.C

		tunnel.unmute()

		restored := time.Now()

		f.publish(t, 8)

		for _, c := range clients {
			c.want(t, f.events())
			t.Logf("%v: the first event arrived %s after the network was restored", c, c.firstAfter(restored).Sub(restored))
		}
	}}
}

// heldBack returns a scenario in which a proxy holds streams back, but nothing else.
func heldBack(t *testing.T, site *clientSite, what string, hold func(io.ReadCloser) (io.ReadCloser, error)) clientScenario {
	t.Helper()

	d := pealdtest.Start(t, site.allow)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: d.SSE})
	proxy.FlushInterval = -1
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) {} // the client has closed its connection
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	proxy.ModifyResponse = func(r *http.Response) (err error) {
		if r.Header.Get("Content-Type") == "text/event-stream" {
			r.Body, err = hold(r.Body)
		}

		return err
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)

	f := &feed{control: d.Control(t)}
	options := feedOptions(t, f.control)
	options["since"] = "all" // there are events before the first one gets through

	return clientScenario{"a proxy holds back " + what, server.URL + "/events", options, func(t *testing.T, clients []*pageClient) {
		t.Helper()

		f.publish(t, 8)

		for _, c := range clients {
			c.awaitState(t, "polling")
			t.Logf("%v: long polling took over after %s; want at most %s", c, c.tookUntil("polling"), takeover)
		}

		f.publish(t, 8)

		for _, c := range clients {
			c.want(t, f.events())
		}
	}}
}

// holdAll returns a stream's body once it is complete.
func holdAll(body io.ReadCloser) (io.ReadCloser, error) {
	all, err := io.ReadAll(body)

	return io.NopCloser(bytes.NewReader(all)), err
}

// holdRest returns a body that has only the first block of a stream.
func holdRest(body io.ReadCloser) (io.ReadCloser, error) { return &heldBody{ReadCloser: body}, nil }

// heldBody is the body of a stream that a proxy holds back after the first block.
type heldBody struct {
	io.ReadCloser

	passed bool // the first block has
}

// Read implements [io.Reader].
func (b *heldBody) Read(p []byte) (int, error) {
	for {
		n, err := b.ReadCloser.Read(p)
		if err != nil {
			return 0, errors.Join(io.ErrUnexpectedEOF, err)
		}

		if !b.passed {
			b.passed = bytes.Contains(p[:n], []byte("\n\n"))

			return n, nil
		}
	}
}
