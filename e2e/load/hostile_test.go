package load_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// attackSize is the extent of attacks.
type attackSize struct {
	clients  int
	duration time.Duration
	connect  time.Duration // the longest accepted time for a well-behaved client to connect
}

// newAttackSize returns a small size for normal runs, where other packages' tests
// run concurrently, and the full size if PEALD_SOAK is set.
func newAttackSize() attackSize {
	if os.Getenv("PEALD_SOAK") != "" {
		return attackSize{clients: 2000, duration: 10 * time.Second, connect: time.Second}
	}

	return attackSize{clients: 40, duration: 400 * time.Millisecond, connect: 30 * time.Second}
}

// attack attacks a daemon over one connection until the connection is closed. The
// attack is then repeated on another connection.
type attack func(ctx context.Context, conn net.Conn) error

// TestHostileClients attacks a daemon with each kind of hostile client. During the
// attack, a well-behaved client must be able to open streams, and afterwards the
// daemon must have released all resources.
func TestHostileClients(t *testing.T) {
	size := newAttackSize()
	certificate := testbed.NewCertificate(t)
	plain := pealdtest.Start(t)
	secure := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.SSE.TLS = daemon.TLS{CertFile: certificate.CertFile, KeyFile: certificate.KeyFile}
	})

	for _, test := range []struct {
		name    string
		daemon  *pealdtest.Daemon
		tls     *tls.Config
		clients int
		attack  attack
	}{
		{"slow request header", plain, nil, size.clients, slowHeader},
		{"silent connections", plain, nil, size.clients, silence},
		{"unfinished handshakes", secure, nil, size.clients, silence},
		{"oversized headers", plain, nil, 8, oversizedHeader},
		{"pipelined requests", plain, nil, 8, pipeline},
		{"requests with bodies", plain, nil, size.clients / 4, bodies},
		{"HTTP/2 rapid reset", secure, certificate.Client("h2"), 4, rapidReset},
		{"HTTP/2 endless header", secure, certificate.Client("h2"), 4, endlessHeaders},
		{"slow request header over TLS", secure, certificate.Client("http/1.1"), size.clients / 4, slowHeader},
		{"HTTP/2 control frames", secure, certificate.Client("h2"), 4, controlFrames},
		{"HTTP/2 closed windows", secure, certificate.Client("h2"), 4, closedWindows},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := settledHeap()
			good := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: certificate.Client("http/1.1")}}

			url := "http://" + test.daemon.SSE + "/events"
			if test.daemon == secure {
				url = "https://" + test.daemon.SSE + "/events"
			}

			ctx, end := context.WithTimeout(t.Context(), size.duration)
			defer end()

			var attackers sync.WaitGroup

			for range test.clients {
				attackers.Go(func() { attackRepeatedly(ctx, test.daemon.SSE, test.tls, test.attack) })
			}

			worst, visits := time.Duration(0), 0

			for visits == 0 || ctx.Err() == nil {
				took, err := visit(t.Context(), good, url, size.connect)
				if err != nil {
					t.Errorf("a well-behaved client: %v", err)

					break
				}

				worst = max(worst, took)
				visits++

				linger(ctx, 20*time.Millisecond)
			}

			end()
			attackers.Wait()
			test.daemon.WaitForStreams(t, 0)
			t.Logf("%d visits, the slowest took %s", visits, worst)

			if worst > size.connect {
				t.Errorf("the slowest of %d visits took %s, want at most %s", visits, worst, size.connect)
			}

			waitForHeap(t, before+16<<20)
		})
	}
}

// attackRepeatedly attacks over one connection after another until ctx is done.
func attackRepeatedly(ctx context.Context, addr string, tlsConfig *tls.Config, attack attack) {
	// The pause limits the rate of new connections, which isn't tested here.
	for ; ctx.Err() == nil; linger(ctx, 100*time.Millisecond) {
		_ = attackOnce(ctx, addr, tlsConfig, attack)
	}
}

func attackOnce(ctx context.Context, addr string, tlsConfig *tls.Config, attack attack) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()

	// Closing the connection interrupts the attack.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()

	if tlsConfig != nil {
		secure := tls.Client(conn, tlsConfig)
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}

		conn = secure
	}

	return attack(ctx, conn)
}

// visit opens a stream, reads its first lines and disconnects. It returns the
// time until the first line.
func visit(ctx context.Context, client *http.Client, url string, patience time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*patience)
	defer cancel()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}

	req.Header.Set("Accept", "text/event-stream")

	start := time.Now()

	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()

	body := bufio.NewReader(resp.Body)

	first, err := body.ReadString('\n')
	if err != nil || !strings.HasPrefix(first, "retry: ") {
		return 0, fmt.Errorf("%s: %q, %w", resp.Status, first, err)
	}

	took := time.Since(start)

	// A stream that asks the client to retry is closed here.
	if second, err := body.ReadString('\n'); err != nil || second == "\n" {
		return 0, errors.New("asked to retry later")
	}

	return took, nil
}

func linger(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func slowHeader(ctx context.Context, conn net.Conn) error {
	for _, b := range []byte("GET /events HTTP/1.1\r\nHost: x\r\nX-Pad: " + strings.Repeat("x", 1000)) {
		if _, err := conn.Write([]byte{b}); err != nil {
			return err
		}

		linger(ctx, time.Second)
	}

	return nil
}

func silence(_ context.Context, conn net.Conn) error {
	_, err := io.Copy(io.Discard, conn)

	return err
}

func oversizedHeader(_ context.Context, conn net.Conn) error {
	if _, err := io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: x\r\nCookie: "); err != nil {
		return err
	}

	for chunk := bytes.Repeat([]byte("x"), 64<<10); ; {
		if _, err := conn.Write(chunk); err != nil {
			return err
		}
	}
}

func pipeline(_ context.Context, conn net.Conn) error {
	go func() { _, _ = io.Copy(io.Discard, conn) }()

	for requests := strings.Repeat("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 500) + "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"; ; {
		if _, err := io.WriteString(conn, requests); err != nil {
			return err
		}
	}
}

func bodies(ctx context.Context, conn net.Conn) error {
	go func() { _, _ = io.Copy(io.Discard, conn) }()

	if _, err := io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n"); err != nil {
		return err
	}

	for chunk := bytes.Repeat([]byte("x"), 4<<10); ; linger(ctx, 10*time.Millisecond) {
		if _, err := conn.Write(chunk); err != nil {
			return err
		}
	}
}

// framer starts HTTP/2 on a connection and discards everything it receives.
func framer(conn net.Conn) (*http2.Framer, error) {
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return nil, err
	}

	f := http2.NewFramer(conn, nil)

	go func() { _, _ = io.Copy(io.Discard, conn) }()

	return f, f.WriteSettings()
}

func requestHeader() []byte {
	var block bytes.Buffer

	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/events"}} {
		_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}

	return block.Bytes()
}

// rapidReset is CVE-2023-44487: it opens streams and resets them immediately, so
// that they don't count towards the limit of concurrent streams.
func rapidReset(_ context.Context, conn net.Conn) error {
	f, err := framer(conn)
	if err != nil {
		return err
	}

	block := requestHeader()

	for id := uint32(1); ; id += 2 {
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true}); err != nil {
			return err
		}

		if err := f.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
			return err
		}
	}
}

// endlessHeaders is CVE-2023-45288: it sends an endless sequence of CONTINUATION
// frames.
func endlessHeaders(_ context.Context, conn net.Conn) error {
	f, err := framer(conn)
	if err != nil {
		return err
	}

	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: requestHeader(), EndStream: true}); err != nil {
		return err
	}

	var block bytes.Buffer

	encoder := hpack.NewEncoder(&block)
	for range 100 {
		_ = encoder.WriteField(hpack.HeaderField{Name: "x-pad", Value: strings.Repeat("x", 100), Sensitive: true})
	}

	for {
		if err := f.WriteContinuation(1, false, block.Bytes()); err != nil {
			return err
		}
	}
}

// settledHeap returns the number of heap bytes in use after garbage collection.
func settledHeap() uint64 {
	var m runtime.MemStats

	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)

	return m.HeapAlloc
}

func waitForHeap(t *testing.T, limit uint64) {
	t.Helper()

	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()

	for deadline := time.Now().Add(3 * time.Minute); ; <-tick.C {
		inUse := settledHeap()
		if inUse <= limit {
			return
		}

		if time.Now().After(deadline) {
			t.Fatalf("%d MiB of the heap in use, want at most %d", inUse>>20, limit>>20)
		}
	}
}
