package tlsrecord_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/peald/peald/internal/tlsrecord"
)

// TestHandshake exchanges data with crypto/tls as the client, in a full and in a
// resumed session.
func TestHandshake(t *testing.T) {
	forEachSuite(t, func(t *testing.T) {
		server, client := configs(t)
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)

		var outcomes []tlsrecord.Outcome
		h := tlsrecord.NewHandshaker(server, 1, func(o tlsrecord.Outcome) { outcomes = append(outcomes, o) })

		for _, resumed := range []bool{false, true} {
			p := connect(t, h, client).requireLayer(t)

			if got := p.tls.ConnectionState().DidResume; got != resumed {
				t.Fatalf("DidResume is %v, want %v", got, resumed)
			}

			p.exchange(t, "data: 1\n\n", "GET / HTTP/1.1\r\n\r\n")
			p.layer.RequestUpdate()
			p.exchange(t, strings.Repeat("data: 2\n\n", 5000), strings.Repeat("GET /2 ", 5000))
			p.closeBoth(t)
		}

		stats := h.Stats()
		if stats.Full != 1 || stats.Resumed != 1 || stats.Failed != 0 || stats.Layers != 2 {
			t.Errorf("statistics %+v, want one full and one resumed handshake with layers", stats)
		}

		if len(outcomes) != 2 || outcomes[0].Resumed || !outcomes[1].Resumed {
			t.Fatalf("outcomes %+v, want one full and one resumed handshake", outcomes)
		}

		if sum := outcomes[0].Computing + outcomes[1].Computing; sum <= 0 || sum != stats.Computing {
			t.Errorf("outcomes with %v of computing, statistics with %v; want the same", sum, stats.Computing)
		}
	})
}

// TestSizes exchanges data of many sizes with crypto/tls, and updates the server's key
// between them.
func TestSizes(t *testing.T) {
	const record = tlsrecord.MaxPlaintext

	forEachSuite(t, func(t *testing.T) {
		server, client := configs(t)
		p := connect(t, tlsrecord.NewHandshaker(server, 1, nil), client).requireLayer(t)

		for i, size := range []int{1, 2, 100, record - 1, record, record + 1, 2*record - 1, 2 * record, 100_000} {
			data := strings.Repeat("x", size)
			p.exchange(t, data, data)

			if i%2 == 0 {
				p.layer.RequestUpdate()
			}
		}
		p.closeBoth(t)
	})
}

// FuzzHandshake performs handshakes with clients that send arbitrary bytes.
func FuzzHandshake(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint8(3))
	f.Add([]byte{22, 3, 1, 0, 4, 1, 0, 0, 0}, uint8(1))
	f.Add([]byte{22, 3, 1, 255, 255, 1, 0, 0, 0}, uint8(9))
	f.Add([]byte{22, 3, 1, 0, 0, 22, 3, 1, 0, 0}, uint8(7))

	server, _ := configs(f)

	f.Fuzz(func(t *testing.T, sent []byte, size uint8) {
		serverConn, client := net.Pipe()
		defer serverConn.Close()

		var calls sync.WaitGroup
		defer calls.Wait()

		calls.Go(func() {
			defer client.Close()

			for part := range slices.Chunk(sent, int(size)+1) {
				if _, err := client.Write(part); err != nil {
					return
				}
			}
		})

		// The alert.
		calls.Go(func() { io.Copy(io.Discard, client) })

		h := tlsrecord.NewHandshaker(server, 1, nil)
		if _, _, err := h.Handshake(t.Context(), serverConn); err == nil {
			t.Error("the handshake succeeded")
		}
		serverConn.Close()
	})
}

// TestHandshakeVariants performs handshakes with other configurations.
func TestHandshakeVariants(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, server, client *tls.Config){
		"hello retry request": func(_ *testing.T, server, _ *tls.Config) {
			server.CurvePreferences = []tls.CurveID{tls.CurveP384}
		},
		"large ClientHello": func(_ *testing.T, _, client *tls.Config) {
			for i := range 100 {
				client.NextProtos = append(client.NextProtos, strings.Repeat(string(rune('a'+i%26)), 100))
			}
		},
		"no session tickets": func(_ *testing.T, server, _ *tls.Config) { server.SessionTicketsDisabled = true },
		"client certificate": func(_ *testing.T, server, client *tls.Config) {
			server.ClientAuth = tls.RequireAnyClientCert
			certificate, _ := server.GetCertificate(nil)
			client.Certificates = []tls.Certificate{*certificate}
		},
		"configuration for the client": func(t *testing.T, server, _ *tls.Config) {
			own := server.Clone()
			server.GetCertificate = nil
			server.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				if _, ok := hello.Conn.(*net.TCPConn); !ok {
					t.Errorf("the connection of the ClientHello is a %T", hello.Conn)
				}

				return own, nil
			}
		},
		"configuration for other clients": func(_ *testing.T, server, _ *tls.Config) {
			server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return nil, nil //nolint:nilnil // As documented, the original configuration is used.
			}
		},
		"tickets in a store": func(_ *testing.T, server, _ *tls.Config) {
			store := map[string][]byte{}
			server.WrapSession = func(_ tls.ConnectionState, state *tls.SessionState) ([]byte, error) {
				encoded, err := state.Bytes()
				store["1"] = encoded

				return []byte("1"), err
			}
			server.UnwrapSession = func(id []byte, _ tls.ConnectionState) (*tls.SessionState, error) {
				return tls.ParseSessionState(store[string(id)])
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := configs(t)
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			change(t, server, client)

			h := tlsrecord.NewHandshaker(server, 1, nil)

			for range 2 {
				p := connect(t, h, client).requireLayer(t)
				p.exchange(t, "to client", "to server")
				p.closeBoth(t)
			}

			if resumed := h.Stats().Resumed == 1; resumed == server.SessionTicketsDisabled {
				t.Errorf("statistics %+v", h.Stats())
			}
		})
	}
}

// TestFallback continues on crypto/tls where the layer can't take over.
func TestFallback(t *testing.T) {
	server, client := configs(t)
	client.MaxVersion = tls.VersionTLS12
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	h := tlsrecord.NewHandshaker(server, 1, nil)

	for _, resumed := range []bool{false, true} {
		checkFallback(t, connect(t, h, client))

		if got := h.Stats().Resumed == 1; got != resumed {
			t.Errorf("statistics %+v", h.Stats())
		}
	}
}

// checkFallback exchanges data over crypto/tls.
func checkFallback(t *testing.T, p *peers) {
	t.Helper()

	if p.layer != nil {
		t.Fatal("the connection has a layer")
	}

	for _, message := range []string{"ping", strings.Repeat("long ", 10000)} {
		var sending sync.WaitGroup

		sending.Go(func() { io.WriteString(p.client, message) })

		got := make([]byte, len(message))
		if _, err := io.ReadFull(p.tls, got); err != nil || string(got) != message {
			t.Fatalf("read %q, %v", got, err)
		}
		sending.Wait()
	}

	if _, err := io.WriteString(p.tls, "pong"); err != nil {
		t.Fatal(err)
	}

	got := make([]byte, 4)
	if _, err := io.ReadFull(p.client, got); err != nil || string(got) != "pong" {
		t.Fatalf("the client read %q, %v", got, err)
	}

	if err := p.tls.Close(); err != nil {
		t.Error(err)
	}

	if _, err := p.client.Read(got); !errors.Is(err, io.EOF) {
		t.Errorf("the client's Read returned %v, want EOF", err)
	}
}

// TestFIPS repeats TestFIPSFallback in FIPS 140 mode, which a process can't change.
func TestFIPS(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFIPSFallback$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=on")

	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestFIPSFallback")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestFIPSFallback(t *testing.T) {
	if !strings.Contains(os.Getenv("GODEBUG"), "fips140=on") {
		t.Skip("TestFIPS runs this test in FIPS 140 mode")
	}

	server, client := configs(t)
	checkFallback(t, connect(t, tlsrecord.NewHandshaker(server, 1, nil), client))
}

// TestTicketKeys resumes sessions whose tickets were encrypted with keys that were set
// after the Handshaker was created, and doesn't after they were replaced.
func TestTicketKeys(t *testing.T) {
	server, client := configs(t)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	h := tlsrecord.NewHandshaker(server, 1, nil)

	for _, step := range []struct {
		keys    [][32]byte
		resumed bool
	}{
		{keys: [][32]byte{{1}}, resumed: false},
		{keys: [][32]byte{{2}, {1}}, resumed: true},
		{keys: [][32]byte{{2}}, resumed: true},
		{keys: [][32]byte{{3}}, resumed: false},
	} {
		server.SetSessionTicketKeys(step.keys)

		p := connect(t, h, client).requireLayer(t)
		p.exchange(t, "to client", "to server")

		if got := p.tls.ConnectionState().DidResume; got != step.resumed {
			t.Errorf("keys %v: DidResume is %v, want %v", step.keys, got, step.resumed)
		}
	}
}

// TestKeyLog tests that the operator's KeyLogWriter receives the secrets, and that they
// are those that the layer starts with.
func TestKeyLog(t *testing.T) {
	server, client := configs(t)

	var serverLog, clientLog bytes.Buffer
	server.KeyLogWriter, client.KeyLogWriter = &serverLog, &clientLog

	connect(t, tlsrecord.NewHandshaker(server, 1, nil), client).requireLayer(t)

	if lines := strings.Count(serverLog.String(), "\n"); lines != 4 {
		t.Errorf("%d lines in the log, want the secrets of both sides for handshake and data:\n%s", lines, &serverLog)
	}

	for line := range strings.Lines(serverLog.String()) {
		if !strings.Contains(clientLog.String(), line) {
			t.Errorf("the client's log lacks %q", line)
		}
	}
}

// splitConn writes each byte on its own.
type splitConn struct{ net.Conn }

func (c splitConn) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}

	return len(p), nil
}

// TestHandshakeFragmented performs a handshake in segments of one byte.
func TestHandshakeFragmented(t *testing.T) {
	server, client := configs(t)
	serverConn, clientConn := net.Pipe()
	defer serverConn.Close()
	defer clientConn.Close()

	p := handshake(t, tlsrecord.NewHandshaker(server, 1, nil), splitConn{serverConn}, tls.Client(splitConn{clientConn}, client))
	p.requireLayer(t)

	if len(p.received) > 0 {
		t.Errorf("%d bytes were read ahead", len(p.received))
	}
}

// joinConn keeps what is written while joining is set, and writes it all at once
// afterwards.
type joinConn struct {
	net.Conn

	joining bool
	kept    []byte
}

func (c *joinConn) Write(p []byte) (int, error) {
	if !c.joining {
		return c.Conn.Write(p)
	}
	c.kept = append(c.kept, p...)

	return len(p), nil
}

func (c *joinConn) flush() error {
	c.joining = false
	_, err := c.Conn.Write(c.kept)

	return err
}

// TestReadAhead sends requests in the same segment as the client's Finished message.
func TestReadAhead(t *testing.T) {
	forEachSuite(t, func(t *testing.T) {
		server, config := configs(t)
		serverConn, clientConn := pipe(t)

		// The client writes its second flight after it has verified the server's.
		join := &joinConn{Conn: clientConn}
		config.VerifyConnection = func(tls.ConnectionState) error {
			join.joining = true
			return nil
		}
		client := tls.Client(join, config)
		sent := make(chan error, 1)

		go func() {
			for range 3 {
				if _, err := io.WriteString(client, strings.Repeat("GET / ", 100)); err != nil {
					sent <- err
					return
				}
			}
			sent <- join.flush()
		}()

		_, layer, err := tlsrecord.NewHandshaker(server, 1, nil).Handshake(t.Context(), serverConn)
		if err != nil || layer == nil {
			t.Fatalf("layer %v, %v", layer, err)
		}

		if err := <-sent; err != nil {
			t.Fatal(err)
		}

		unread := layer.Unread()
		if len(unread) == 0 || layer.Unread() != nil {
			t.Errorf("%d bytes are unread, want some once", len(unread))
		}

		p := &peers{conn: serverConn, layer: layer, received: unread}

		var got []byte
		for len(got) < 3*600 {
			plain, err := p.open()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, plain...)
		}

		if string(got) != strings.Repeat("GET / ", 300) {
			t.Errorf("received %q", got)
		}
	})
}

// TestCutOff tests that crypto/tls can't use the connection, and thereby the same
// nonces, after a layer has taken over.
func TestCutOff(t *testing.T) {
	server, client := configs(t)
	p := connect(t, tlsrecord.NewHandshaker(server, 1, nil), client).requireLayer(t)

	if _, err := p.tls.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write returned %v, want net.ErrClosed", err)
	}

	if _, err := p.tls.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read returned %v, want net.ErrClosed", err)
	}

	p.tls.Close()
	p.exchange(t, "still open", "still open")
	p.closeBoth(t)
}

// TestHandshakeErrors performs handshakes that fail.
func TestHandshakeErrors(t *testing.T) {
	t.Run("plain HTTP", func(t *testing.T) {
		server, _ := configs(t)
		serverConn, client := pipe(t)
		h := tlsrecord.NewHandshaker(server, 1, nil)

		if _, err := io.WriteString(client, "GET / HTTP/1.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}

		tc, layer, err := h.Handshake(t.Context(), serverConn)

		header, ok := errors.AsType[tls.RecordHeaderError](err)
		if tc != nil || layer != nil || !ok || string(header.RecordHeader[:]) != "GET /" {
			t.Fatalf("got %v, %v, %v; want a RecordHeaderError", tc, layer, err)
		}

		if _, err := io.WriteString(header.Conn, "HTTP/1.0 400 Bad Request\r\n\r\n"); err != nil {
			t.Error(err)
		}

		if stats := h.Stats(); stats.Failed != 1 || stats.Full != 0 {
			t.Errorf("statistics %+v, want a failed handshake", stats)
		}
	})

	t.Run("canceled", func(t *testing.T) {
		server, _ := configs(t)
		serverConn, _ := pipe(t)
		h := tlsrecord.NewHandshaker(server, 1, nil)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()

		if _, _, err := h.Handshake(ctx, serverConn); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})

	t.Run("closed", func(t *testing.T) {
		server, _ := configs(t)
		serverConn, client := pipe(t)
		client.Close()

		if _, _, err := tlsrecord.NewHandshaker(server, 1, nil).Handshake(t.Context(), serverConn); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want EOF", err)
		}
	})

	t.Run("no certificate", func(t *testing.T) {
		server, config := configs(t)
		failure := errors.New("no certificate today")
		server.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, failure }

		serverConn, clientConn := pipe(t)
		rejected := make(chan error, 1)

		go func() { rejected <- tls.Client(clientConn, config).Handshake() }()

		if _, _, err := tlsrecord.NewHandshaker(server, 1, nil).Handshake(t.Context(), serverConn); !errors.Is(err, failure) {
			t.Errorf("got %v, want the error of GetCertificate", err)
		}

		if err := <-rejected; err == nil || !strings.Contains(err.Error(), "internal error") {
			t.Errorf("the client got %v, want an alert", err)
		}
	})
}

// TestSlowClients tests that clients that don't send anything, or don't read, don't
// keep others from their handshakes.
func TestSlowClients(t *testing.T) {
	server, client := configs(t)

	// In a bubble, the slow handshakes are known to be blocked.
	synctest.Test(t, func(t *testing.T) {
		h := tlsrecord.NewHandshaker(server, 1, nil)
		ctx, cancel := context.WithCancel(t.Context())

		var handshakes sync.WaitGroup

		for range 3 {
			silent, idle := net.Pipe()
			defer idle.Close()

			handshakes.Go(func() { h.Handshake(ctx, silent) })

			deaf, sender := net.Pipe()
			defer sender.Close()

			handshakes.Go(func() { h.Handshake(ctx, deaf) })
			handshakes.Go(func() {
				tls.Client(&writeOnly{Conn: sender, closed: make(chan struct{})}, client).HandshakeContext(ctx)
			})
		}

		synctest.Wait()

		serverConn, clientConn := net.Pipe()
		config := client.Clone()
		config.InsecureSkipVerify = true // The clock of the bubble is before the certificate's time.

		p := handshake(t, h, serverConn, tls.Client(clientConn, config))
		p.requireLayer(t)

		serverConn.Close()
		clientConn.Close()
		cancel()
		handshakes.Wait()

		if stats := h.Stats(); stats.Full != 1 || stats.Failed != 6 {
			t.Errorf("statistics %+v, want one handshake and 6 failures", stats)
		}
	})
}

// writeOnly is the connection of a client that doesn't read.
type writeOnly struct {
	net.Conn

	closed chan struct{}
}

func (c *writeOnly) Read([]byte) (int, error) {
	<-c.closed
	return 0, net.ErrClosed
}

func (c *writeOnly) Close() error {
	close(c.closed)
	return c.Conn.Close()
}

// TestParallel tests that no more handshakes compute at once than allowed.
func TestParallel(t *testing.T) {
	const parallel, clients = 2, 8

	server, client := configs(t)
	original := server.GetCertificate

	var (
		mu            sync.Mutex
		computing, at int
	)

	server.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		computing++
		at = max(at, computing)
		mu.Unlock()

		certificate, err := original(hello)

		mu.Lock()
		computing--
		mu.Unlock()

		return certificate, err
	}
	h := tlsrecord.NewHandshaker(server, parallel, nil)

	var connects sync.WaitGroup
	for range clients {
		connects.Go(func() { connect(t, h, client).requireLayer(t) })
	}
	connects.Wait()

	if at > parallel {
		t.Errorf("%d handshakes computed at once, want at most %d", at, parallel)
	}

	if stats := h.Stats(); stats.Full != clients {
		t.Errorf("statistics %+v, want %d handshakes", stats, clients)
	}
}
