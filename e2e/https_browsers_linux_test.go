package e2e_test

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/testbed"
)

// streamsPerPage is the number of streams that a page of TestBrowsersOverHTTPS
// opens. Over HTTP/1.1, a browser would open six per host, for all its tabs.
const streamsPerPage = 5

// streamsPage opens streams with a plain EventSource and records the events. For a
// long one, it records the length and a checksum.
const streamsPage = `<!doctype html><meta charset="utf-8"><title>Streams over HTTPS</title>
<pre id="show"></pre>
<script>
const query = new URLSearchParams(location.search);
const streams = Array.from({ length: query.get("streams") }, (_, n) => ({ n, opened: 0, got: [], last: "" }));
const all = (holds) => streams.every(holds);

function open(stream) {
	stream.source?.close();
	const resume = stream.last && "&last_event_id=" + stream.last;
	const source = stream.source = new EventSource(query.get("url") + (stream.n === 0 ? "&topic=large" : "") + resume);
	const record = ({ lastEventId }, text) => { stream.last = lastEventId; stream.got.push(text); };
	source.onopen = () => { stream.opened++; };
	source.onerror = () => { show.textContent += stream.n + " " + source.readyState + "\n"; };
	source.onmessage = (event) => record(event, event.data);
	source.addEventListener("peald.reset", (event) => record(event, "reset " + event.data));
	source.addEventListener("topic", (event) => {
		const { data } = event;
		let sum = 0;
		for (let i = 0; i < data.length; i++) sum = (Math.imul(sum, 31) + data.charCodeAt(i)) | 0;
		record(event, data.length + " " + sum);
	});
}

streams.forEach(open);
</script>`

// TestBrowsersOverHTTPS opens more streams than HTTP/1.1 allows, in two tabs of
// every browser, over HTTP/2. The streams must resume without a gap after a backend
// disconnects their user, after the daemon is killed, and after it drains.
func TestBrowsersOverHTTPS(t *testing.T) {
	t.Parallel()

	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, streamsPage)
	}))
	t.Cleanup(pages.Close)

	certificate := testbed.NewCertificate(t)
	p := startProcess(t, "--sse.tls.cert_file", certificate.CertFile, "--sse.tls.key_file", certificate.KeyFile,
		"--sse.allowed_origins", pages.URL)
	// Firefox gives up when a connection is refused, or closed during the handshake.
	tunnel := newPatientProxy(t, p.sse)

	query := url.Values{
		"streams": {strconv.Itoa(streamsPerPage)},
		"url":     {"https://" + tunnel.addr + "/events?access_token=" + p.token(t, "alice")},
	}
	tabs := openEverywhere(t, 2, pages.URL+"/?"+query.Encode())
	held := strconv.Itoa(len(tabs) * streamsPerPage)

	waitForAll := func(opened int) {
		t.Helper()
		for _, tab := range tabs {
			tab.WaitFor(t, fmt.Sprintf(`all((stream) => stream.opened >= %d)`, opened))
		}
		p.waitForMetric(t, `peald_connections_by_transport{transport="http2"}`, held)
		p.waitForMetric(t, `peald_connections_by_engine{engine="epoll"}`, held)
		p.waitForMetric(t, `peald_compressed_connections`, held)
	}

	waitForAll(1)
	if n := tunnel.carrying(); n >= len(tabs)*streamsPerPage {
		t.Errorf("%d connections for %s streams", n, held)
	}
	large := p.publishLarge(t)
	p.broadcast(t, "1")

	reply, err := p.control.Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "alice"})
	if err != nil || strconv.Itoa(int(reply.GetConnections())) != held {
		t.Fatalf("disconnected %d streams, %v; want %s", reply.GetConnections(), err, held)
	}
	p.broadcast(t, "2")
	waitForAll(2)

	p.broadcast(t, "3")
	p.end(syscall.SIGKILL)
	p.start(t)
	p.broadcast(t, "4")
	reopenInWebKit(t, tabs)
	waitForAll(3)

	p.broadcast(t, "5")
	p.end(syscall.SIGTERM)
	p.start(t)
	p.broadcast(t, "6")
	waitForAll(4)

	for i, tab := range tabs {
		want := slices.Repeat([]string{"1 2 3 4 5 6"}, streamsPerPage)
		want[0] = large + " " + want[0]
		tab.WaitFor(t, `all((stream) => stream.got.at(-1) === "6")`)

		var got []string
		tab.Eval(t, `streams.map((stream) => stream.got.join(" "))`, &got)
		if !slices.Equal(got, want) {
			t.Errorf("tab %d got %q, want %q", i, got, want)
		}
	}
}

// reopenInWebKit opens the streams again in WebKit, which doesn't notice that an
// HTTP/2 connection breaks, whoever serves it.
func reopenInWebKit(t *testing.T, tabs []*browsertest.Tab) {
	t.Helper()
	for _, tab := range tabs {
		if tab.Kind() == browsertest.WebKit {
			tab.Eval(t, `streams.forEach(open)`, nil)
		}
	}
}

// openEverywhere opens a page in several tabs of every kind of browser.
func openEverywhere(t *testing.T, each int, address string) []*browsertest.Tab {
	t.Helper()

	kinds := browsertest.Kinds()
	tabs := make([]*browsertest.Tab, each*len(kinds))
	var opening sync.WaitGroup

	for i, kind := range kinds {
		opening.Go(func() {
			b := browsertest.Start(t, kind)
			for n := range each {
				tabs[i*each+n] = b.Open(t, address)
			}
		})
	}
	opening.Wait()

	// A helper that fails or skips the test ends only its own goroutine.
	if t.Failed() || t.Skipped() {
		t.SkipNow()
	}

	return tabs
}

// publishLarge publishes an event of 1 MiB to the topic large, of which half can be
// compressed. It returns what pages record for it.
func (p *process) publishLarge(t *testing.T) string {
	t.Helper()

	const half = 1 << 19
	random := make([]byte, half*3/4)
	_, _ = rand.Read(random)
	data := base64.StdEncoding.EncodeToString(random) + strings.Repeat("compress", half/8)

	_, err := p.control.Publish(t.Context(), &pealv1.PublishRequest{Topic: "large", Data: data})
	if err != nil {
		t.Fatal(err)
	}

	var sum int32
	for _, b := range []byte(data) {
		sum = sum*31 + int32(b)
	}

	return fmt.Sprint(len(data), " ", sum)
}
