package cluster_test

import (
	"errors"
	"testing"

	"github.com/peald/peald/internal/broker"
)

func TestStandaloneNodeKeepsItsEventLog(t *testing.T) {
	t.Parallel()
	cfg := configs(t, 1)[0]
	m := start(t, cfg)
	serving(t, m)
	first := m.publish(t, toAll("one"))
	m.publish(t, toUser("alice", "two"))
	m.end(t)

	m = start(t, cfg)
	serving(t, m)
	c := m.connect(t, broker.Subscription{User: "alice", LastEventID: first.ID})
	m.publish(t, toAll("three"))
	c.gets(t, "two", "three")
}

func TestAllNodesDeliver(t *testing.T) {
	t.Parallel()
	members := startAll(t, 3)
	var clients []*client
	for _, m := range members {
		clients = append(clients, m.connect(t, broker.Subscription{User: "alice"}))
	}
	var last broker.Receipt
	for i, m := range members {
		last = m.publish(t, toAll(string(rune('a'+i))))
	}
	for _, c := range clients {
		c.gets(t, "a", "b", "c")
		if got := c.lastID(); got != last.ID {
			t.Errorf("the last id is %q, want the receipt's id %q", got, last.ID)
		}
	}
}

func TestClientsResumeOnAnyNode(t *testing.T) {
	t.Parallel()
	members := startAll(t, 3)
	first := members[0].publish(t, toAll("one"))
	last := members[1].publish(t, toAll("two"))
	for _, m := range members {
		m.connect(t, broker.Subscription{LastEventID: first.ID}).gets(t, "two")
	}
	// The publisher's node has an event first; other nodes may lag.
	for range 50 {
		id := last.ID
		last = members[1].publish(t, toAll("more"))
		members[2].connect(t, broker.Subscription{LastEventID: last.ID})
		members[0].connect(t, broker.Subscription{LastEventID: id}).gets(t, "more")
	}
}

func TestAllNodesKnowIdempotencyKeys(t *testing.T) {
	t.Parallel()
	members := startAll(t, 3)
	m := toAll("one")
	m.IdempotencyKey = "key"
	first := members[0].publish(t, m)
	other := m
	other.Data = "another"
	for i, node := range members {
		if again := node.publish(t, m); again.ID != first.ID {
			t.Errorf("node %d: the repetition got the id %q, want %q", i, again.ID, first.ID)
		}
		if _, err := node.Publish(t.Context(), other); !errors.Is(err, broker.ErrKeyUsed) {
			t.Errorf("node %d: another message with the key: error %v, want %v", i, err, broker.ErrKeyUsed)
		}
	}
}
