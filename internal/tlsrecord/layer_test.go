package tlsrecord_test

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/tlsrecord"
)

// TestLayerSize bounds the memory of a connection.
func TestLayerSize(t *testing.T) {
	if tlsrecord.Size > 288 {
		t.Errorf("a layer has %d bytes; want at most 288, a size class of the allocator", tlsrecord.Size)
	}
}

// side is one side of a connection, and what travels to it.
type side struct {
	layer      *tlsrecord.Layer
	wire       []byte // ciphertext that hasn't been opened
	sent, read []byte
}

// receive opens what has arrived in the first n bytes of the wire.
func (s *side) receive(n int) error {
	arrived := bytes.Clone(s.wire[:n])

	for {
		plain, n, err := s.layer.Open(arrived)
		if err != nil {
			return err
		}

		if n == 0 {
			return nil
		}
		s.read = append(s.read, plain...)
		arrived, s.wire = arrived[n:], s.wire[n:]
	}
}

// TestExchange sends data and key updates in both directions, in fragments of any
// size.
func TestExchange(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		server := newLayer(t, rapid.SampledFrom(allSuites()).Draw(rt, "suite"))
		sides := [2]*side{{layer: server}, {layer: server.Mirror()}}

		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			i := rapid.IntRange(0, 1).Draw(rt, "side")
			from, to := sides[i], sides[1-i]

			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0:
				from.layer.RequestUpdate()
			case 1, 2:
				if err := from.receive(rapid.IntRange(0, len(from.wire)).Draw(rt, "arrived")); err != nil {
					rt.Fatal(err)
				}
			default:
				pieces := drawPieces(rt)
				data := slices.Concat(pieces...)
				from.sent = append(from.sent, data...)

				sealed := from.layer.Seal([]byte("before"), pieces)
				if !bytes.HasPrefix(sealed, []byte("before")) {
					rt.Fatal("Seal changed what was in dst")
				}

				if !bytes.Equal(data, slices.Concat(pieces...)) {
					rt.Fatal("Seal changed the pieces")
				}
				to.wire = append(to.wire, sealed[len("before"):]...)
			}
		}

		for i, s := range sides {
			if err := s.receive(len(s.wire)); err != nil {
				rt.Fatal(err)
			}

			if !bytes.Equal(s.read, sides[1-i].sent) || len(s.wire) > 0 {
				rt.Fatalf("side %d read %d bytes and left %d, want %d", i, len(s.read), len(s.wire), len(sides[1-i].sent))
			}
		}
	})
}

// drawPieces returns pieces of data, of which some are empty or exceed a record.
func drawPieces(rt *rapid.T) [][]byte {
	var pieces [][]byte

	for range rapid.IntRange(0, 4).Draw(rt, "pieces") {
		size := rapid.OneOf(
			rapid.IntRange(0, 300),
			rapid.IntRange(tlsrecord.MaxPlaintext-2, tlsrecord.MaxPlaintext+2),
			rapid.IntRange(0, 3*tlsrecord.MaxPlaintext),
		).Draw(rt, "size")
		pieces = append(pieces, bytes.Repeat([]byte{rapid.Byte().Draw(rt, "byte")}, size))
	}

	return pieces
}

// TestSealRecords counts the records of several pieces.
func TestSealRecords(t *testing.T) {
	for _, test := range []struct {
		pieces  []int
		records int
	}{
		{pieces: nil, records: 0},
		{pieces: []int{0, 0}, records: 0},
		{pieces: []int{1}, records: 1},
		{pieces: []int{100, 0, 200}, records: 1},
		{pieces: []int{tlsrecord.MaxPlaintext}, records: 1},
		{pieces: []int{tlsrecord.MaxPlaintext, 1}, records: 2},
		{pieces: []int{5 * tlsrecord.MaxPlaintext}, records: 5},
	} {
		server, client := newLayers(t)

		var pieces [][]byte

		total := 0
		for _, size := range test.pieces {
			pieces = append(pieces, make([]byte, size))
			total += size
		}

		sealed := server.Seal(nil, pieces)
		if want := total + test.records*tlsrecord.Overhead; len(sealed) != want {
			t.Errorf("%v: %d bytes, want %d in %d records", test.pieces, len(sealed), want, test.records)
		}

		if data, err := openAll(client, sealed); err != nil || len(data) != total {
			t.Errorf("%v: opened %d bytes, %v; want %d", test.pieces, len(data), err, total)
		}
	}
}

// TestSealDoesNotAllocate tests that the only allocations are those of the ciphers.
func TestSealDoesNotAllocate(t *testing.T) {
	for _, suite := range allSuites() {
		layer := newLayer(t, suite)
		pieces := [][]byte{[]byte("data: hello\n"), []byte("\n")}
		dst := make([]byte, 0, 100)

		allocations := testing.AllocsPerRun(100, func() { dst = layer.Seal(dst[:0], pieces) })
		if allocations > 2 {
			t.Errorf("suite %x: %v allocations, want at most a block cipher and its mode", suite, allocations)
		}
	}
}

// TestRecordLimit seals across the limit of records per key.
func TestRecordLimit(t *testing.T) {
	server, client := newLayers(t)
	server.SetSequences(0, tlsrecord.MaxRecords-1)
	client.SetSequences(tlsrecord.MaxRecords-1, 0)

	data := bytes.Repeat([]byte("x"), 3*tlsrecord.MaxPlaintext)

	got, err := openAll(client, server.Seal(nil, [][]byte{data}))
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("opened %d bytes, %v; want %d", len(got), err, len(data))
	}

	if _, out := server.Sequences(); out != 2 {
		t.Errorf("the new key has sealed %d records, want 2", out)
	}

	if in, _ := client.Sequences(); in != 2 {
		t.Errorf("the new key has opened %d records, want 2", in)
	}
}

// TestSequenceLimit opens the record with the last sequence number, after which there
// is no nonce left.
func TestSequenceLimit(t *testing.T) {
	const last = 1<<64 - 1

	server, client := newLayers(t)
	server.SetSequences(last, 0)
	client.SetSequences(0, last)

	_, _, err := server.Open(sealInner(t, client, 'x', 23))
	wantAlert(t, err, tlsrecord.AlertBadRecordMAC)
}

// TestSealAfterAlert tests that nothing follows an alert.
func TestSealAfterAlert(t *testing.T) {
	server, _ := newLayers(t)

	if sealed := server.SealAlert(nil, tlsrecord.AlertCloseNotify); len(sealed) != 2+tlsrecord.Overhead {
		t.Errorf("the alert has %d bytes", len(sealed))
	}

	if sealed := server.Seal(nil, [][]byte{[]byte("late")}); len(sealed) > 0 {
		t.Error("Seal appended data after close_notify")
	}

	if sealed := server.SealAlert(nil, tlsrecord.AlertInternalError); len(sealed) > 0 {
		t.Error("SealAlert appended an alert after close_notify")
	}
}

// TestWipe tests that no secret is left and nothing can be sealed or opened.
func TestWipe(t *testing.T) {
	server, client := newLayers(t)
	record := client.Seal(nil, [][]byte{[]byte("data")})

	server.Wipe()

	for i, secret := range server.Secrets() {
		if !bytes.Equal(secret, make([]byte, len(secret))) {
			t.Errorf("secret %d wasn't overwritten", i)
		}
	}

	if sealed := server.Seal(nil, [][]byte{[]byte("late")}); len(sealed) > 0 {
		t.Error("Seal appended data after Wipe")
	}

	if sealed := server.SealAlert(nil, tlsrecord.AlertCloseNotify); len(sealed) > 0 {
		t.Error("SealAlert appended an alert after Wipe")
	}

	_, _, err := server.Open(record)
	wantAlert(t, err, tlsrecord.AlertInternalError)
}
