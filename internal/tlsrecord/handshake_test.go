package tlsrecord_test

import (
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"testing"

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
