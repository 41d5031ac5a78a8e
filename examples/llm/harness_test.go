package main

import (
	"context"
	"io"
	"iter"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

const patience = 90 * time.Second

// site is the backend with a model whose words the test supplies, a daemon, and the
// network between the daemon and browsers.
type site struct {
	pages     *httptest.Server
	daemon    *pealdtest.Daemon
	addrs     []string // of the daemon, for streams and for gRPC
	network   *network
	questions atomic.Int32
	words     chan chan string // the words of each answer that begins
	shutDown  context.CancelFunc
}

// newSite starts a backend and a network, but no daemon.
func newSite(t *testing.T) *site {
	t.Helper()

	addrs := testbed.FreeAddrs(t, 3)
	s := &site{
		pages:   httptest.NewUnstartedServer(nil),
		addrs:   addrs,
		network: &network{addr: addrs[2], target: addrs[0], statuses: map[string][]int{}},
		words:   make(chan chan string, 1),
	}

	conn, err := grpc.NewClient(addrs[1], grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(retries))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = conn.Close() })

	ctx, cancel := context.WithCancel(t.Context())
	s.shutDown = cancel
	b := &backend{model: s.model, peald: pealv1.NewControlServiceClient(conn)}
	s.pages.Config.Handler = newHandler(ctx, b, "http://"+s.network.addr+"/events")
	s.pages.Start()
	s.network.start(t)
	t.Cleanup(func() {
		s.network.stop(t)
		s.pages.Close()
		cancel()
		b.running.Wait()
	})
	return s
}

// startDaemon starts a daemon at the addresses that the backend and the network use.
func (s *site) startDaemon(t *testing.T, changes ...func(*daemon.Config)) {
	t.Helper()

	s.daemon = pealdtest.Start(t, append(changes, func(cfg *daemon.Config) {
		cfg.SSE.Addr, cfg.GRPC.Addr = s.addrs[0], s.addrs[1]
		cfg.SSE.Retry = 50 * time.Millisecond
		cfg.SSE.Heartbeat = time.Second
		cfg.SSE.AllowedOrigins = []string{"http://" + s.pages.Listener.Addr().String()}
		cfg.Auth.AnonymousTopics = []string{"answers.*"}
	})...)
}

// inDirectory returns a change that lets the history survive restarts.
func inDirectory(dir string) func(*daemon.Config) {
	return func(cfg *daemon.Config) { cfg.Cluster.Mode, cfg.Cluster.Dir = daemon.ClusterEmbedded, dir }
}

// model generates the words that the test passes to answer.generate.
func (s *site) model(ctx context.Context, _ string) iter.Seq2[string, error] {
	words := make(chan string)

	s.questions.Add(1)
	s.words <- words
	return func(yield func(string, error) bool) {
		for {
			select {
			case word, more := <-words:
				if !more || !yield(word, nil) {
					return
				}
			case <-ctx.Done():
				yield("", ctx.Err())
				return
			}
		}
	}
}

// ask asks a question on a page and returns the answer that begins.
func (s *site) ask(t *testing.T, page answerPage, question string) *answer {
	t.Helper()
	page.Fill(t, "[name=question]", question)
	page.Click(t, "button")
	page.WaitFor(t, `element("question").textContent === `+strconv.Quote(question))

	var location string

	page.Eval(t, "location.search", &location)
	return s.answer(t, location)
}

// post asks a question without a browser. It returns the status and the page's
// location, or the reason for a rejection.
func (s *site) post(t *testing.T, question string, header ...string) (status int, location string) {
	t.Helper()

	body := strings.NewReader(url.Values{"question": {question}}.Encode())

	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.pages.URL+"/ask", body)
	if err != nil {
		t.Fatal(err)
	}

	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")

	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}

	response, err := http.DefaultTransport.RoundTrip(request) // without following redirects
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	reason, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}

	if response.StatusCode == http.StatusSeeOther {
		return response.StatusCode, response.Header.Get("Location")
	}
	return response.StatusCode, string(reason)
}

// answer returns the answer that has just begun, whose page has the given URL.
func (s *site) answer(t *testing.T, location string) *answer {
	t.Helper()

	_, id, found := strings.Cut(location, "?answer=")
	if !found {
		t.Fatalf("the page of the answer is %q", location)
	}

	select {
	case words := <-s.words:
		return &answer{topic: "answers." + id, words: words}
	case <-time.After(patience):
		t.Fatal("the model isn't asked")
		return nil
	}
}

func (s *site) answerURL(a *answer) string {
	return s.pages.URL + "/?answer=" + strings.TrimPrefix(a.topic, "answers.")
}

// answer is an answer that the model is generating.
type answer struct {
	topic     string
	words     chan string
	generated []string
}

// generate makes the model generate words. It returns once the model has handed over the last
// one, so the ones before have been published.
func (a *answer) generate(t *testing.T, words ...string) {
	t.Helper()

	for _, word := range words {
		select {
		case a.words <- word:
			a.generated = append(a.generated, word)
		case <-time.After(patience):
			t.Fatalf("after %d words, the backend doesn't ask the model for another one", len(a.generated))
		}
	}
}

// stop completes the answer.
func (a *answer) stop() { close(a.words) }

// answerPage is a tab with the page.
type answerPage struct{ *browsertest.Tab }

// wants waits until the page displays as many words as the model has generated, and
// compares the text.
func (p answerPage) wants(t *testing.T, a *answer) {
	t.Helper()
	p.WaitFor(t, "words >= "+strconv.Itoa(len(a.generated)))

	var shown string

	p.Eval(t, `element("answer").textContent`, &shown)

	if want := strings.Join(a.generated, ""); shown != want {
		t.Errorf("%s displays\n%q, want\n%q", p.Kind(), shown, want)
	}
}

// wantsEnd waits until the answer has ended on the page, and the EventSource has
// stopped. Then it compares the text.
func (p answerPage) wantsEnd(t *testing.T, a *answer, state, text string) {
	t.Helper()
	p.WaitFor(t, stateIs(state)+` && events.readyState === EventSource.CLOSED`)
	p.wants(t, a)

	var shown string

	if p.Eval(t, `element("state").textContent`, &shown); shown != text {
		t.Errorf("%s displays the state %q, want %q", p.Kind(), shown, text)
	}
}

// stateIs returns a condition for a page.
func stateIs(state string) string {
	return `element("card").dataset.state === ` + strconv.Quote(state)
}

// noticeHas returns a condition for a page.
func noticeHas(part string) string {
	return `!element("notice").hidden && element("notice").textContent.includes(` + strconv.Quote(part) + `)`
}

// wantNoMessages waits until the history has no messages for a topic.
func wantNoMessages(t *testing.T, d *pealdtest.Daemon, topic string) {
	t.Helper()

	control := d.Control(t)
	request := &pealv1.ListMessagesRequest{Audience: &pealv1.ListMessagesRequest_Topic{Topic: topic}}

	if !testbed.Eventually(patience, func() bool {
		reply, err := control.ListMessages(t.Context(), request)
		return err == nil && len(reply.GetMessages()) == 0
	}) {
		t.Fatalf("topic %s still has messages", topic)
	}
}

// network is a proxy between browsers and the daemon.
type network struct {
	addr, target string
	server       *http.Server
	serving      sync.WaitGroup

	mu       sync.Mutex
	statuses map[string][]int // of the responses, by topic
}

// start accepts connections.
func (n *network) start(t *testing.T) {
	t.Helper()

	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}

	quiet := log.New(io.Discard, "", 0)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: n.target})
	proxy.ErrorLog = quiet
	proxy.ModifyResponse = func(response *http.Response) error {
		topic := response.Request.URL.Query().Get("topic")

		n.mu.Lock()
		defer n.mu.Unlock()

		n.statuses[topic] = append(n.statuses[topic], response.StatusCode)
		return nil
	}

	n.server = &http.Server{Handler: proxy, ErrorLog: quiet, ReadHeaderTimeout: patience}
	n.serving.Go(func() { _ = n.server.Serve(listener) })
}

// stop breaks all connections. New ones are refused.
func (n *network) stop(t *testing.T) {
	t.Helper()

	if err := n.server.Close(); err != nil {
		t.Error(err)
	}

	n.serving.Wait()
}

// requests returns the statuses of the responses for a topic, in order.
func (n *network) requests(topic string) []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.statuses[topic])
}
