package tlsrecord_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/peald/peald/internal/tlsrecord"
)

const (
	typeCCS         = 20
	typeAlert       = 21
	typeHandshake   = 22
	typeData        = 23
	typeHeartbeat   = 24
	typeKeyUpdate   = 24
	typeFinished    = 20
	typeCertificate = 11
)

// TestOpenErrors opens what a client must not send after the handshake.
func TestOpenErrors(t *testing.T) {
	inner := func(inner ...byte) func(*testing.T, *tlsrecord.Layer) []byte {
		return func(t *testing.T, client *tlsrecord.Layer) []byte { return sealInner(t, client, inner...) }
	}
	raw := func(record ...byte) func(*testing.T, *tlsrecord.Layer) []byte {
		return func(*testing.T, *tlsrecord.Layer) []byte { return record }
	}

	for name, test := range map[string]struct {
		records func(t *testing.T, client *tlsrecord.Layer) []byte
		want    tlsrecord.Alert
	}{
		"change_cipher_spec":        {raw(typeCCS, 3, 3, 0, 1, 1), tlsrecord.AlertUnexpectedMessage},
		"unprotected alert":         {raw(typeAlert, 3, 3, 0, 2, 1, 0), tlsrecord.AlertUnexpectedMessage},
		"unprotected handshake":     {raw(typeHandshake, 3, 3, 0, 4, 0, 0, 0, 0), tlsrecord.AlertUnexpectedMessage},
		"plain HTTP":                {raw([]byte("GET / HTTP/1.1\r\n")...), tlsrecord.AlertUnexpectedMessage},
		"version":                   {raw(typeData, 3, 1, 0, 17), tlsrecord.AlertProtocolVersion},
		"oversized ciphertext":      {raw(typeData, 3, 3, 0x41, 1), tlsrecord.AlertRecordOverflow},
		"empty ciphertext":          {raw(typeData, 3, 3, 0, 0), tlsrecord.AlertBadRecordMAC},
		"ciphertext without a tag":  {raw(typeData, 3, 3, 0, 3, 1, 2, 3), tlsrecord.AlertBadRecordMAC},
		"forged tag":                {raw(append([]byte{typeData, 3, 3, 0, 20}, make([]byte, 20)...)...), tlsrecord.AlertBadRecordMAC},
		"oversized plaintext":       {inner(append(make([]byte, tlsrecord.MaxPlaintext+1), typeData)...), tlsrecord.AlertRecordOverflow},
		"oversized padding":         {inner(append([]byte{'x', typeData}, make([]byte, tlsrecord.MaxPlaintext)...)...), tlsrecord.AlertRecordOverflow},
		"padding only":              {inner(make([]byte, 10)...), tlsrecord.AlertUnexpectedMessage},
		"no plaintext":              {inner(), tlsrecord.AlertUnexpectedMessage},
		"protected CCS":             {inner(1, typeCCS), tlsrecord.AlertUnexpectedMessage},
		"heartbeat":                 {inner(1, typeHeartbeat), tlsrecord.AlertUnexpectedMessage},
		"empty alert":               {inner(typeAlert), tlsrecord.AlertUnexpectedMessage},
		"short alert":               {inner(2, typeAlert), tlsrecord.AlertDecodeError},
		"two alerts":                {inner(2, 80, 1, 0, typeAlert), tlsrecord.AlertDecodeError},
		"empty handshake":           {inner(typeHandshake), tlsrecord.AlertUnexpectedMessage},
		"Finished":                  {inner(append(append([]byte{typeFinished, 0, 0, 32}, make([]byte, 32)...), typeHandshake)...), tlsrecord.AlertUnexpectedMessage},
		"part of a certificate":     {inner(typeCertificate, 0, typeHandshake), tlsrecord.AlertUnexpectedMessage},
		"KeyUpdate without a value": {inner(typeKeyUpdate, 0, 0, 0, 0, typeHandshake), tlsrecord.AlertDecodeError},
		"KeyUpdate with request 2":  {inner(typeKeyUpdate, 0, 0, 1, 2, typeHandshake), tlsrecord.AlertIllegalParameter},
		"two KeyUpdates":            {inner(typeKeyUpdate, 0, 0, 1, 0, typeKeyUpdate, 0, 0, 1, 0, typeHandshake), tlsrecord.AlertUnexpectedMessage},
		"KeyUpdate and a part":      {inner(typeKeyUpdate, 0, 0, 1, 0, typeKeyUpdate, typeHandshake), tlsrecord.AlertUnexpectedMessage},
		"data inside a KeyUpdate": {func(t *testing.T, client *tlsrecord.Layer) []byte {
			return append(sealInner(t, client, typeKeyUpdate, 0, typeHandshake), sealInner(t, client, 'x', typeData)...)
		}, tlsrecord.AlertUnexpectedMessage},
		"record under the old key": {func(t *testing.T, client *tlsrecord.Layer) []byte {
			return append(sealInner(t, client, typeKeyUpdate, 0, 0, 1, 0, typeHandshake), sealInner(t, client, 'x', typeData)...)
		}, tlsrecord.AlertBadRecordMAC},
		"repeated record": {func(t *testing.T, client *tlsrecord.Layer) []byte {
			record := sealInner(t, client, 'x', typeData)
			return append(record, record...)
		}, tlsrecord.AlertBadRecordMAC},
		"many empty records": {func(t *testing.T, client *tlsrecord.Layer) []byte {
			var records []byte
			for range 17 {
				records = append(records, sealInner(t, client, typeData)...)
			}
			return records
		}, tlsrecord.AlertUnexpectedMessage},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := newLayers(t)

			_, err := openAll(server, test.records(t, client))
			wantAlert(t, err, test.want)

			// The error is permanent, even for a valid record.
			_, _, err = server.Open(sealInner(t, client, 'x', typeData))
			wantAlert(t, err, test.want)
		})
	}
}

// TestOpenAlerts opens alerts, whose level doesn't matter.
func TestOpenAlerts(t *testing.T) {
	for _, level := range []byte{1, 2} {
		server, client := newLayers(t)

		if _, _, err := server.Open(sealInner(t, client, level, 0, typeAlert)); !errors.Is(err, io.EOF) {
			t.Errorf("close_notify: got %v, want EOF", err)
		}

		// What follows is ignored.
		if _, n, err := server.Open([]byte("GET / HTTP/1.1")); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("after close_notify: got %d, %v; want EOF", n, err)
		}

		server, client = newLayers(t)

		_, _, err := server.Open(sealInner(t, client, level, 40, typeAlert))
		if alert, ok := errors.AsType[*tlsrecord.PeerAlertError](err); !ok || alert.Alert != 40 {
			t.Errorf("handshake_failure: got %v, want the peer's alert", err)
		}

		server, client = newLayers(t)

		plain, n, err := server.Open(sealInner(t, client, level, 90, typeAlert))
		if len(plain) > 0 || n == 0 || err != nil {
			t.Errorf("user_canceled: got %q, %d, %v; want it to be ignored", plain, n, err)
		}
	}
}

// TestOpenPadding opens records with padding, which isn't part of the data.
func TestOpenPadding(t *testing.T) {
	for _, padding := range []int{0, 1, 255, tlsrecord.MaxPlaintext - 4} {
		server, client := newLayers(t)
		inner := append([]byte{'a', 0, 'b', 0, typeData}, make([]byte, padding)...)

		plain, n, err := server.Open(sealInner(t, client, inner...))
		if err != nil || n != len(inner)+tlsrecord.Overhead-1 || string(plain) != "a\x00b\x00" {
			t.Errorf("padding of %d bytes: got %q, %d, %v", padding, plain, n, err)
		}
	}
}

// TestOpenMaximum opens the largest record that the standard allows.
func TestOpenMaximum(t *testing.T) {
	server, client := newLayers(t)
	inner := append(make([]byte, tlsrecord.MaxPlaintext), typeData)

	plain, _, err := server.Open(sealInner(t, client, inner...))
	if err != nil || len(plain) != tlsrecord.MaxPlaintext {
		t.Errorf("got %d bytes, %v; want %d", len(plain), err, tlsrecord.MaxPlaintext)
	}
}

// TestOpenIncomplete opens every part of a record.
func TestOpenIncomplete(t *testing.T) {
	server, client := newLayers(t)
	record := client.Seal(nil, [][]byte{[]byte("data")})

	for size := range record {
		if plain, n, err := server.Open(record[:size]); len(plain) > 0 || n != 0 || err != nil {
			t.Fatalf("%d bytes: got %q, %d, %v; want nothing", size, plain, n, err)
		}
	}

	if plain, n, err := server.Open(record); string(plain) != "data" || n != len(record) || err != nil {
		t.Errorf("got %q, %d, %v", plain, n, err)
	}
}

// TestOpenUseless tests that data between them permits any number of empty records
// and KeyUpdates.
func TestOpenUseless(t *testing.T) {
	server, client := newLayers(t)

	for range 100 {
		var records []byte

		for range 8 {
			records = append(records, sealInner(t, client, typeData)...)
			records = append(records, sealInner(t, client, typeKeyUpdate, 0, 0, 1, 0, typeHandshake)...)

			if err := client.Update(); err != nil {
				t.Fatal(err)
			}
		}
		records = append(records, sealInner(t, client, 'x', typeData)...)

		if data, err := openAll(server, records); err != nil || string(data) != "x" {
			t.Fatalf("got %q, %v", data, err)
		}
	}
}

// TestOpenKeyUpdate updates the client's key with a message in one or several records,
// and expects the server to do the same before its next data if the client asks for it.
func TestOpenKeyUpdate(t *testing.T) {
	for _, request := range []byte{0, 1} {
		message := []byte{typeKeyUpdate, 0, 0, 1, request}

		for size := 1; size <= len(message); size++ {
			server, client := newLayers(t)

			var records []byte
			for part := range slices.Chunk(message, size) {
				records = append(records, sealInner(t, client, append(bytes.Clone(part), typeHandshake)...)...)
			}

			if err := client.Update(); err != nil {
				t.Fatal(err)
			}
			records = append(records, client.Seal(nil, [][]byte{[]byte("data")})...)

			if data, err := openAll(server, records); err != nil || string(data) != "data" {
				t.Fatalf("request %d in parts of %d bytes: got %q, %v", request, size, data, err)
			}

			sealed := server.Seal(nil, [][]byte{[]byte("reply")})

			const keyUpdate = 5 + tlsrecord.Overhead
			if want := int(request)*keyUpdate + 5 + tlsrecord.Overhead; len(sealed) != want {
				t.Errorf("request %d: the reply has %d bytes, want %d", request, len(sealed), want)
			}

			if data, err := openAll(client, sealed); err != nil || string(data) != "reply" {
				t.Errorf("request %d: the client got %q, %v", request, data, err)
			}

			// The request has been answered.
			if sealed := server.Seal(nil, [][]byte{[]byte("x")}); len(sealed) != 1+tlsrecord.Overhead {
				t.Errorf("request %d: the next data has %d bytes", request, len(sealed))
			}
		}
	}
}

// FuzzOpen opens arbitrary bytes, and a record with arbitrary modifications.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{23, 3, 3, 0, 17}, uint8(0), uint16(0), uint8(1))
	f.Add([]byte{20, 3, 3, 0, 1, 1}, uint8(1), uint16(3), uint8(0))
	f.Add([]byte{}, uint8(2), uint16(30), uint8(128))

	f.Fuzz(func(t *testing.T, in []byte, suite uint8, at uint16, flip uint8) {
		id := allSuites()[int(suite)%len(allSuites())]
		server := newLayer(t, id)
		client := server.Mirror()

		record := client.Seal(nil, [][]byte{[]byte("data: secret\n\n")})
		modified := bytes.Clone(record)
		modified[int(at)%len(modified)] ^= flip

		if data, err := openAll(server, append(modified, in...)); flip != 0 && len(data) > 0 {
			t.Errorf("a modified record yielded %q, %v", data, err)
		} else if flip == 0 && string(data) != "data: secret\n\n" {
			t.Errorf("the record yielded %q, %v", data, err)
		}

		if data, _ := openAll(newLayer(t, id), in); len(data) > 0 {
			t.Errorf("%x yielded %q", in, data)
		}
	})
}
