package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/testbed"
)

// TestFullDiskOfOneNode fills the disk of one node of three. Acknowledged messages
// must be kept, the other two nodes must continue, and streams from the full node
// must find all their events there. The node must log that its disk is full, and
// later that it must be restarted.
func TestFullDiskOfOneNode(t *testing.T) {
	t.Parallel()
	cfgs := configs(t, 3)
	cfgs[0].Embedded.Dir = testbed.SmallDisk(t, "6m")
	log := new(testbed.Log)
	cfgs[0].Logger = loggingTo(log)
	var members []*member
	for _, cfg := range cfgs {
		members = append(members, start(t, cfg))
	}
	serving(t, members...)
	c := members[0].connect(t, broker.Subscription{})
	large := strings.Repeat("x", 256<<10)
	const messages = 40
	publish := func(data, key string) {
		m := toAll(data)
		m.IdempotencyKey = key // a message may be in the event log although publishing failed
		eventually(t, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := members[1].Publish(ctx, m)
			return err == nil
		}, func() string { return "two nodes of three can't publish" })
	}

	for i := range messages {
		publish(large, fmt.Sprint(i))
	}
	eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.ended || len(c.events) == messages
	}, func() string { return "the full node's stream lacks events and stays open" })
	c.mu.Lock() // later events on this stream are ignored
	got, id := len(c.events), c.decoder.LastEventID()
	c.mu.Unlock()
	elsewhere := members[2].connect(t, broker.Subscription{LastEventID: id})
	publish("last", "last")
	eventually(t, func() bool { return got+len(elsewhere.data()) >= messages+1 }, func() string {
		return fmt.Sprintf("the stream received %d events on the full node and %d on another, of %d", got, len(elsewhere.data()), messages+1)
	})
	if data := elsewhere.data(); got+len(data) != messages+1 || data[len(data)-1] != "last" {
		t.Errorf("the stream received %d events on the full node and %d on another, of %d", got, len(data), messages+1)
	}

	eventually(t, func() bool {
		return len(log.With("level=ERROR", "event log cannot be written", cfgs[0].Embedded.Dir)) == 1
	}, func() string { return "the full disk is not logged:\n" + log.String() })
	testbed.ResizeDisk(t, cfgs[0].Embedded.Dir, "256m")
	eventually(t, func() bool { return len(log.With("level=WARN", "disk accepts writes again, restart needed")) == 1 }, func() string {
		return "the advice to restart is not logged:\n" + log.String()
	})
}
