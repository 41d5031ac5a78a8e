package tlsrecord_test

import (
	"bytes"
	"crypto/tls"
	"testing"

	"github.com/peald/peald/internal/tlsrecord"
)

// newLayer returns a layer whose traffic secrets consist of the bytes 1 and 2.
func newLayer(tb testing.TB, suite uint16) *tlsrecord.Layer {
	tb.Helper()

	size := 32
	if suite == tls.TLS_AES_256_GCM_SHA384 {
		size = 48
	}

	layer, err := tlsrecord.NewLayer(suite, bytes.Repeat([]byte{1}, size), bytes.Repeat([]byte{2}, size))
	if err != nil {
		tb.Fatal(err)
	}

	return layer
}

// newLayers returns the layers of both sides of a connection.
func newLayers(tb testing.TB) (server, client *tlsrecord.Layer) {
	tb.Helper()

	server = newLayer(tb, tls.TLS_AES_128_GCM_SHA256)

	return server, server.Mirror()
}

// sealInner returns a record with this plaintext, type and padding.
func sealInner(tb testing.TB, layer *tlsrecord.Layer, inner ...byte) []byte {
	tb.Helper()

	record, err := layer.SealInner(inner)
	if err != nil {
		tb.Fatal(err)
	}

	return record
}

// openAll opens all records of in and returns the data.
func openAll(layer *tlsrecord.Layer, in []byte) (data []byte, err error) {
	for len(in) > 0 {
		plain, n, err := layer.Open(in)
		if err != nil {
			return data, err
		}

		if n == 0 {
			return data, nil
		}
		data = append(data, plain...)
		in = in[n:]
	}

	return data, nil
}
