package tlsrecord_test

import (
	"bytes"
	"testing"

	"github.com/peald/peald/internal/tlsrecord"
)

// TestExpandedKeys lets one of two layers at a time keep its expanded key. Both must
// seal what their peers can open, before and after key updates.
func TestExpandedKeys(t *testing.T) {
	t.Parallel()

	for _, suite := range allSuites() {
		first, second := newLayer(t, suite), newLayer(t, suite)
		firstPeer, secondPeer := first.Mirror(), second.Mirror()
		tlsrecord.ShareBudget(1, first, second)

		check := func(l, peer *tlsrecord.Layer, keeps bool) {
			t.Helper()

			want := []byte("event")
			sealed := l.Seal(nil, [][]byte{want})

			got, err := openAll(peer, sealed)
			if err != nil {
				t.Fatalf("suite %x: %v", suite, err)
			}

			if !bytes.Equal(got, want) || l.KeepsExpanded() != keeps {
				t.Errorf("suite %x: got %q, keeps the key: %t; want %q, %t", suite, got, l.KeepsExpanded(), want, keeps)
			}
		}

		check(first, firstPeer, true)
		check(second, secondPeer, false)
		first.RequestUpdate()
		second.RequestUpdate()
		check(first, firstPeer, true)
		check(second, secondPeer, false)
		first.Wipe()

		if sealed := first.Seal(nil, [][]byte{{1}}); len(sealed) > 0 || first.KeepsExpanded() {
			t.Errorf("suite %x: a wiped layer sealed %d bytes, keeps the key: %t", suite, len(sealed), first.KeepsExpanded())
		}
		check(second, secondPeer, true)
		second.Wipe()
	}
}
