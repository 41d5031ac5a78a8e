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
)

// siege is how hard hostile clients try.
type siege struct {
	clients int
	lasts   time.Duration
	connect time.Duration // what a client that means well may have to wait
}

// siegeSize is small in every run of the tests, where other packages' run at
// the same time, and full where PEALD_SOAK is set.
func siegeSize() siege {
	if os.Getenv("PEALD_SOAK") != "" {
		return siege{clients: 2000, lasts: 10 * time.Second, connect: time.Second}
	}

	return siege{clients: 100, lasts: time.Second, connect: 30 * time.Second}
}

// attack does harm over one connection until it is closed. It is begun again
// then, as long as the siege lasts.
type attack func(ctx context.Context, conn net.Conn) error

// TestHostileClients lets clients of each kind do what they can, and holds that
// one that means well gets its stream all the while, and that nothing is left
// of the others.
func TestHostileClients(t *testing.T) {
	size := siegeSize()
	certificate := pealdtest.NewCertificate(t)
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
		{"a header byte a second", plain, nil, size.clients, slowHeader},
		{"connections that say nothing", plain, nil, size.clients, silence},
		{"handshakes that never end", secure, nil, size.clients, silence},
		{"oversized headers", plain, nil, 8, oversizedHeader},
		{"pipelined requests", plain, nil, 8, pipeline},
		{"requests with bodies", plain, nil, size.clients / 4, bodies},
		{"HTTP/2 rapid reset", secure, certificate.Client("h2"), 4, rapidReset},
		{"HTTP/2 endless headers", secure, certificate.Client("h2"), 4, endlessHeaders},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := settledHeap()
			good := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: certificate.Client("http/1.1")}}

			url := "http://" + test.daemon.SSE + "/events"
			if test.daemon == secure {
				url = "https://" + test.daemon.SSE + "/events"
			}

			ctx, end := context.WithTimeout(t.Context(), size.lasts)
			defer end()

			var besiegers sync.WaitGroup

			for range test.clients {
				besiegers.Go(func() { besiege(ctx, test.daemon.SSE, test.tls, test.attack) })
			}

			worst, visits := time.Duration(0), 0

			for ctx.Err() == nil {
				took, err := visit(t.Context(), good, url, size.connect)
				if err != nil {
					t.Errorf("a client that means well: %v", err)

					break
				}

				worst = max(worst, took)
				visits++

				linger(ctx, 20*time.Millisecond)
			}

			end()
			besiegers.Wait()
			test.daemon.WaitForStreams(t, 0)
			t.Logf("%d visits, the slowest in %s", visits, worst)

			if visits == 0 || worst > size.connect {
				t.Errorf("of %d visits one took %s, at most %s are allowed", visits, worst, size.connect)
			}

			waitForHeap(t, before+16<<20)
		})
	}
}

// besiege attacks over one connection after another.
func besiege(ctx context.Context, addr string, tlsConfig *tls.Config, attack attack) {
	// What is held is that connections do no harm, not that there can be any
	// number of new ones.
	for ; ctx.Err() == nil; linger(ctx, 100*time.Millisecond) {
		_ = besiegeOnce(ctx, addr, tlsConfig, attack)
	}
}

func besiegeOnce(ctx context.Context, addr string, tlsConfig *tls.Config, attack attack) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()

	// Whatever it is doing ends with the siege.
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

// visit opens a stream, reads its first line and leaves.
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

	// A refusal that passes ends here.
	if second, err := body.ReadString('\n'); err != nil || second == "\n" {
		return 0, errors.New("it was told to come back later")
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

// framer begins HTTP/2 on a connection, and reads what comes.
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

// rapidReset is CVE-2023-44487: it asks for streams and takes that back at
// once, so that they don't count.
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

// endlessHeaders is CVE-2023-45288: a header that never ends.
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

// settledHeap is what is in use once what can be let go is.
func settledHeap() uint64 {
	var m runtime.MemStats

	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)

	return m.HeapAlloc
}

func waitForHeap(t *testing.T, most uint64) {
	t.Helper()

	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()

	for deadline := time.Now().Add(3 * time.Minute); ; <-again.C {
		inUse := settledHeap()
		if inUse <= most {
			return
		}

		if time.Now().After(deadline) {
			t.Fatalf("%d MiB are in use, at most %d are expected", inUse>>20, most>>20)
		}
	}
}
