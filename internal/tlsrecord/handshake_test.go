package tlsrecord_test

import (
	"crypto/tls"
	"testing"

	"github.com/peald/peald/internal/tlsrecord"
)

// TestHandshake exchanges data with crypto/tls as the client, in a full and in a
// resumed session.
func TestHandshake(t *testing.T) {
	forEachSuite(t, func(t *testing.T) {
		server, client := configs(t)
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		h := tlsrecord.NewHandshaker(server, 1, nil)

		for _, resumed := range []bool{false, true} {
			p := connect(t, h, client).requireLayer(t)

			if got := p.tls.ConnectionState().DidResume; got != resumed {
				t.Fatalf("DidResume is %v, want %v", got, resumed)
			}

			p.exchange(t, "data: 1\n\n", "GET / HTTP/1.1\r\n\r\n")
			p.exchange(t, "data: 2\n\n", "GET /2 HTTP/1.1\r\n\r\n")
			p.closeBoth(t)
		}

		stats := h.Stats()
		if stats.Full != 1 || stats.Resumed != 1 || stats.Failed != 0 || stats.Layers != 2 || stats.Computing <= 0 {
			t.Errorf("statistics %+v, want one full and one resumed handshake with layers", stats)
		}
	})
}
