package cluster_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/peald/peald/internal/broker"
)

// readOn reads all pages, each from the next node, and returns their ids and the last
// position.
func readOn(tb testing.TB, members []*member, q broker.Read) (ids []string, position string) {
	tb.Helper()
	for page := 0; ; page++ {
		got, err := members[page%len(members)].broker.ReadMessages(tb.Context(), q)
		if err != nil {
			tb.Fatalf("page %d of %+v: %v", page, q, err)
		}
		for _, m := range got.Messages {
			ids = append(ids, m.ID)
			q.Cursor, q.Position = m.ID, got.Position
		}
		if !got.More {
			return ids, got.Position
		}
	}
}

// TestPagesAreReadOnAnyNode reads each page on another node, while messages are published
// on all of them. Nodes wait for the messages on the previous page.
func TestPagesAreReadOnAnyNode(t *testing.T) {
	t.Parallel()
	members := startAll(t, 3)
	const n = 40
	var published []string
	var publishing sync.WaitGroup
	done := make(chan struct{})
	publishing.Go(func() {
		defer close(done)
		for i := range n {
			m := members[i%len(members)]
			published = append(published, m.publish(t, retained("a", fmt.Sprint(i), "x")).ID)
			m.publish(t, toAll("for others"))
		}
	})

	q := broker.Read{Audience: broker.ToTopic("a"), Limit: 7}
	var got []string
	for finished := false; !finished; {
		select {
		case <-done:
			finished = true
		default:
		}
		if finished {
			await(t, published[n-1], members...)
		}
		ids, position := readOn(t, members, q)
		got = append(got, ids...)
		q.After = position
	}
	publishing.Wait()
	if !slices.Equal(got, published) {
		t.Errorf("read %q while publishing, want %q", got, published)
	}

	for _, q := range []broker.Read{{}, {Newest: true}, {Retained: true}, {Retained: true, Newest: true}} {
		q.Audience, q.Limit = broker.ToTopic("a"), 7
		ids, _ := readOn(t, members, q)
		if q.Newest {
			slices.Reverse(ids)
		}
		if !slices.Equal(ids, published) {
			t.Errorf("%+v: read %q, want %q", q, ids, published)
		}
	}
}
