package bench_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub is a small event stream server and its publisher. Tests make it faulty
// through its fields.
type hub struct {
	url string

	// frames returns the frames to send to the nth stream instead of frame, for
	// the message with this number; nil means frame itself.
	frames func(stream, number int, frame []byte) [][]byte
	// reject replies to the request for the nth stream if it returns true.
	reject func(w http.ResponseWriter, stream int) bool
	// write writes a frame to a stream, if not nil.
	write func(c *subscriber, frame []byte)
	// identity disables chunked encoding.
	identity bool
	// raw, if not empty, is written to the hijacked connection of each stream
	// instead of a response.
	raw string
	// secure makes the hub use TLS. Its clients then need the configuration tls.
	secure bool
	tls    *tls.Config
	// perConnection is the server's limit for streams of an HTTP/2 connection; 0
	// means the default.
	perConnection int
	// onlyHTTP1 disables HTTP/2.
	onlyHTTP1 bool
	// everyone sends messages for one user to all streams.
	everyone bool

	mu        sync.Mutex
	clients   []*subscriber
	remotes   map[string]int // streams by source address
	protocols map[string]int // streams by protocol
	ports     map[string]int // streams by remote address, including the port
	published int
}

type subscriber struct {
	user    string
	w       http.ResponseWriter
	conn    net.Conn // if hijacked
	close   func()   // closes the stream, unless hijacked
	scratch []byte   // for the write function of a test
}

func startHub(t *testing.T, set func(*hub)) *hub {
	t.Helper()
	h := &hub{remotes: map[string]int{}, protocols: map[string]int{}, ports: map[string]int{}}

	if set != nil {
		set(h)
	}

	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2 = !h.onlyHTTP1
	server.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: h.perConnection}
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetHTTP2(!h.onlyHTTP1)
	server.Config.Protocols.SetUnencryptedHTTP2(!h.onlyHTTP1)
	if h.secure {
		server.StartTLS()
		trusted := x509.NewCertPool()
		trusted.AddCert(server.Certificate())
		h.tls = &tls.Config{RootCAs: trusted}
	} else {
		server.Start()
	}

	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})

	h.url = server.URL + "/events?q=1"
	return h
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	c := &subscriber{w: w, close: cancel, user: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}
	h.mu.Lock()
	number := len(h.clients)
	h.clients = append(h.clients, c)
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	h.remotes[host]++
	h.protocols[r.Proto]++
	h.ports[r.RemoteAddr]++

	if r.URL.Path != "/events" || r.URL.RawQuery != "q=1" || r.Header.Get("Accept") != "text/event-stream" || r.Host == "" {
		http.Error(w, "not the request of a stream", http.StatusBadRequest)
		c.w = nil
		h.mu.Unlock()
		return
	}

	if h.reject != nil && h.reject(w, number) {
		c.w = nil
		h.mu.Unlock()
		return
	}

	if h.raw != "" {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}

		c.conn = conn
		defer conn.Close()

		fmt.Fprint(conn, h.raw)
		h.mu.Unlock()
		_, _ = conn.Read(make([]byte, 1)) // until the client disconnects
		return
	}

	w.Header().Set("Content-Type", "text/event-stream")
	if h.identity {
		w.Header().Set("Transfer-Encoding", "identity")
	}

	fmt.Fprint(w, "retry: 3000\n\n")
	flush(w)
	h.mu.Unlock()
	<-ctx.Done()
	h.mu.Lock() // not during a write
	c.w = nil
	h.mu.Unlock()
}

// opened returns how many streams there have been.
func (h *hub) opened() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.clients)
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// Publish implements bench.Publisher.
func (h *hub) Publish(_ context.Context, user, data string) error {
	h.mu.Lock()
	defer h.mu.Unlock()

	frame := fmt.Appendf(nil, "id: a-%d\nevent: broadcast\ndata: %s\n\n", h.published, data)
	for i, c := range h.clients {
		if (c.w == nil && c.conn == nil) || (user != "" && c.user != user && !h.everyone) {
			continue
		}

		frames := [][]byte{frame}
		if h.frames != nil {
			if instead := h.frames(i, h.published, frame); instead != nil {
				frames = instead
			}
		}

		for _, f := range frames {
			h.send(c, f)
		}
	}

	h.published++
	return nil
}

func (h *hub) send(c *subscriber, frame []byte) {
	if h.write != nil {
		h.write(c, frame)
		return
	}
	_, _ = c.w.Write(bytes.Clone(frame))
	flush(c.w)
}

// Token implements bench.Publisher.
func (h *hub) Token(_ context.Context, user string) (string, error) { return user, nil }
