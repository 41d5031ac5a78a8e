package tlsrecord_test

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/peald/peald/internal/tlsrecord"
)

// TestRFC8448 opens and seals the records of RFC 8448 under application keys.
func TestRFC8448(t *testing.T) {
	for section, vectors := range readVectors(t) {
		t.Run("section "+section, func(t *testing.T) {
			layer, err := tlsrecord.NewLayer(tls.TLS_AES_128_GCM_SHA256, vectors["client secret"], vectors["server secret"])
			if err != nil {
				t.Fatal(err)
			}

			inKey, inIV, outKey, outIV := layer.Keys()
			for name, got := range map[string][]byte{
				"client key": inKey, "client iv": inIV, "server key": outKey, "server iv": outIV,
			} {
				if want, ok := vectors[name]; ok && !bytes.Equal(got, want) {
					t.Errorf("%s %x, want %x", name, got, want)
				}
			}

			if ticket, ok := vectors["server ticket"]; ok {
				if err := layer.SkipTickets(bytes.Clone(ticket)); err != nil {
					t.Fatalf("skip the ticket: %v", err)
				}
			}

			checkTrace(t, layer, vectors)
		})
	}
}

// checkTrace exchanges the data and the alerts in both directions.
func checkTrace(t *testing.T, layer *tlsrecord.Layer, vectors map[string][]byte) {
	t.Helper()

	in := append(bytes.Clone(vectors["client data"]), vectors["client alert"]...)

	plain, n, err := layer.Open(in)
	if err != nil || n != len(vectors["client data"]) || !bytes.Equal(plain, vectors["data"]) {
		t.Errorf("Open returned %x, %d, %v; want the data", plain, n, err)
	}

	if _, _, err := layer.Open(in[n:]); !errors.Is(err, io.EOF) {
		t.Errorf("Open of the alert returned %v, want EOF", err)
	}

	if got := layer.Seal(nil, [][]byte{vectors["data"]}); !bytes.Equal(got, vectors["server data"]) {
		t.Errorf("Seal returned %x, want %x", got, vectors["server data"])
	}

	if got := layer.SealAlert(nil, tlsrecord.AlertCloseNotify); !bytes.Equal(got, vectors["server alert"]) {
		t.Errorf("SealAlert returned %x, want %x", got, vectors["server alert"])
	}
}

// readVectors returns the vectors by section and name.
func readVectors(t *testing.T) map[string]map[string][]byte {
	t.Helper()

	data, err := os.ReadFile("testdata/rfc8448.txt")
	if err != nil {
		t.Fatal(err)
	}

	sections := map[string]map[string][]byte{}
	section := ""

	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)

		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}

		name, value, ok := strings.Cut(line, " = ")
		if !ok {
			section = strings.Trim(line, "[]")
			sections[section] = map[string][]byte{}

			continue
		}

		decoded, err := hex.DecodeString(value)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sections[section][name] = decoded
	}

	if len(sections) != 2 {
		t.Fatalf("%d sections of vectors, want 2", len(sections))
	}

	return sections
}
