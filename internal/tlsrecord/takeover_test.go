package tlsrecord_test

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"github.com/peald/peald/internal/tlsrecord"
)

// TestSkipTickets advances a layer by the records of a handshake.
func TestSkipTickets(t *testing.T) {
	const messageTicket = 4

	hello := []byte{typeHandshake, 3, 3, 0, 2, 2, 0}
	ccs := []byte{typeCCS, 3, 3, 0, 1, 1}

	for name, test := range map[string]struct {
		sent   func(server, other *tlsrecord.Layer) [][]byte
		want   uint64
		failed bool
	}{
		"nothing": {
			sent: func(_, _ *tlsrecord.Layer) [][]byte { return nil },
		},
		"no tickets": {
			sent: func(_, other *tlsrecord.Layer) [][]byte {
				return [][]byte{hello, ccs, sealInner(t, other, 8, typeHandshake), sealInner(t, other, 20, typeHandshake)}
			},
		},
		"one ticket": {
			sent: func(server, other *tlsrecord.Layer) [][]byte {
				return [][]byte{hello, ccs, sealInner(t, other, 8, typeHandshake), sealInner(t, server, messageTicket, typeHandshake)}
			},
			want: 1,
		},
		"three tickets": {
			sent: func(server, _ *tlsrecord.Layer) [][]byte {
				var records [][]byte
				for range 3 {
					records = append(records, sealInner(t, server, messageTicket, 0, typeHandshake))
				}
				return records
			},
			want: 3,
		},
		"another message": {
			sent: func(server, _ *tlsrecord.Layer) [][]byte {
				return [][]byte{sealInner(t, server, 24, 0, 0, 1, 0, typeHandshake)}
			},
			failed: true,
		},
		"data": {
			sent: func(server, _ *tlsrecord.Layer) [][]byte {
				return [][]byte{sealInner(t, server, messageTicket, typeData)}
			},
			failed: true,
		},
		"ticket between others": {
			sent: func(server, other *tlsrecord.Layer) [][]byte {
				return [][]byte{sealInner(t, server, messageTicket, typeHandshake), sealInner(t, other, 20, typeHandshake)}
			},
			failed: true,
		},
		"part of a header": {
			sent:   func(_, _ *tlsrecord.Layer) [][]byte { return [][]byte{hello, ccs[:4]} },
			failed: true,
		},
		"part of a record": {
			sent:   func(_, _ *tlsrecord.Layer) [][]byte { return [][]byte{hello[:6]} },
			failed: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			layer := newLayer(t, tls.TLS_AES_128_GCM_SHA256)
			_, other := newLayers(t) // It seals with the client's key.

			err := layer.SkipTickets(slices.Concat(test.sent(layer.Mirror().Mirror(), other)...))
			if failed := err != nil; failed != test.failed {
				t.Errorf("got the error %v", err)
			}

			if _, out := layer.Sequences(); err == nil && out != test.want {
				t.Errorf("%d records were skipped, want %d", out, test.want)
			}
		})
	}
}

// TestNewLayerErrors tests that a layer needs the right secrets.
func TestNewLayerErrors(t *testing.T) {
	for _, sizes := range [][2]int{{0, 0}, {32, 0}, {0, 32}, {48, 32}, {32, 31}} {
		layer, err := tlsrecord.NewLayer(tls.TLS_AES_128_GCM_SHA256, make([]byte, sizes[0]), make([]byte, sizes[1]))
		if layer != nil || err == nil {
			t.Errorf("secrets of %v bytes yielded a layer", sizes)
		}
	}
}

// TestKeyLogLines tests lines that crypto/tls may write in the future.
func TestKeyLogLines(t *testing.T) {
	const random = "0123456789abcdef"

	valid := strings.Repeat("ab", 32)

	for line, want := range map[string]int{
		"SERVER_TRAFFIC_SECRET_0 " + random + " " + valid + "\n":                    32,
		"SERVER_TRAFFIC_SECRET_0 " + random + " " + valid:                           32,
		"SERVER_TRAFFIC_SECRET_0 " + random + " " + strings.Repeat("ab", 48):        48,
		"SERVER_TRAFFIC_SECRET_0 " + random + " " + strings.Repeat("ab", 49) + "\n": 0,
		"SERVER_TRAFFIC_SECRET_0 " + random + " xy" + valid[2:] + "\n":              0,
		"SERVER_TRAFFIC_SECRET_0 " + random + "\n":                                  0,
		"SERVER_TRAFFIC_SECRET_0\n":                                                 0,
		"SERVER_TRAFFIC_SECRET_1 " + random + " " + valid + "\n":                    0,
		"EXPORTER_SECRET " + random + " " + valid + "\n":                            0,
		"\n": 0,
		"":   0,
	} {
		client, server, err := tlsrecord.ParseKeyLog(line)
		if err != nil || len(client) != 0 || len(server) != want {
			t.Errorf("%q: secrets of %d and %d bytes, %v; want 0 and %d", line, len(client), len(server), err, want)
		}
	}
}
