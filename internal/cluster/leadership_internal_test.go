package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/peald/peald/internal/broker"
)

// replied is a reply to a request for the state of an event log with three replicas,
// which ends at the entry last. led is how long the server that replied has led the
// event log, or 0 if it doesn't.
func replied(leader string, led time.Duration, last uint64, replicas ...*jetstream.PeerInfo) *jetstream.StreamInfo {
	info := &jetstream.StreamInfo{
		Config: jetstream.StreamConfig{
			Name: "test", Replicas: 3, Metadata: map[string]string{metaEpoch: "abc", metaFormat: currentFormat},
		},
		State:     jetstream.StreamState{FirstSeq: 1, LastSeq: last, Msgs: last},
		Cluster:   &jetstream.ClusterInfo{Leader: leader, Replicas: replicas},
		TimeStamp: time.Now(),
	}
	if led > 0 {
		since := info.TimeStamp.Add(-led)
		info.Cluster.LeaderSince = &since
	}
	return info
}

// follows is a replica that was in contact a moment ago.
func follows(name string) *jetstream.PeerInfo {
	return &jetstream.PeerInfo{Name: name, Current: true, Active: 10 * time.Millisecond}
}

// unseen is a replica that hasn't been in contact with the server that replied.
func unseen(name string) *jetstream.PeerInfo { return &jetstream.PeerInfo{Name: name} }

// lastSeen is a replica that has been silent for the given time.
func lastSeen(name string, ago time.Duration) *jetstream.PeerInfo {
	return &jetstream.PeerInfo{Name: name, Current: true, Active: ago}
}

func TestFromLeader(t *testing.T) {
	t.Parallel()
	const took = 20 * time.Millisecond
	alone := replied("a", 0, 1)
	alone.Config.Replicas = 1
	for name, test := range map[string]struct {
		info     *jetstream.StreamInfo
		embedded bool
		want     bool
	}{
		"leader":                    {replied("a", time.Hour, 1, follows("b"), follows("c")), true, true},
		"leader without contact":    {replied("a", time.Hour, 1, unseen("b"), unseen("c")), true, true},
		"leader of an old version":  {replied("a", 0, 1, follows("b"), follows("c")), false, true},
		"only replica":              {alone, true, true},
		"standalone server":         {&jetstream.StreamInfo{}, true, true},
		"no leader":                 {replied("", 0, 1, unseen("a"), unseen("b"), unseen("c")), true, false},
		"follower":                  {replied("b", 0, 1, follows("b"), unseen("c")), true, false},
		"follower, external":        {replied("b", 0, 1, follows("b"), unseen("c")), false, false},
		"elected, but not complete": {replied("a", 0, 1, follows("b"), unseen("c")), true, false},
		"elected during the reply":  {replied("a", took/2, 1, follows("b"), unseen("c")), true, false},
		"replica not started":       {replied("a", 0, 1), true, false},
	} {
		if got := fromLeader(test.info, took, test.embedded); got != test.want {
			t.Errorf("%s: fromLeader = %t, want %t", name, got, test.want)
		}
	}
}

// TestReplyFromLaggingReplica opens a stream on a node that was partitioned and lacks the
// client's last event. Then a server replies to the node's probe. Only a leader that can't
// have been deposed proves that the event log doesn't have the event.
func TestReplyFromLaggingReplica(t *testing.T) {
	t.Parallel()
	const (
		applied, seen = 83, 89
		partition     = 20 * time.Second
		wait          = 2 * time.Second
	)
	for name, test := range map[string]struct {
		reply  func() *jetstream.StreamInfo
		serves bool
		want   error
	}{
		"own replica, without a leader": {func() *jetstream.StreamInfo {
			return replied("", 0, applied, unseen("a"), unseen("b"), unseen("c"))
		}, false, broker.ErrBehind},
		"own replica, as a leader is elected": {func() *jetstream.StreamInfo {
			return replied("b", 0, applied, unseen("b"), unseen("c"))
		}, false, broker.ErrBehind},
		"own replica, in contact with the leader": {func() *jetstream.StreamInfo {
			return replied("b", 0, applied, follows("b"), unseen("c"))
		}, false, broker.ErrBehind},
		"own replica, which was deposed": {func() *jetstream.StreamInfo {
			return replied("a", time.Hour+partition+wait, applied, follows("b"), follows("c"))
		}, true, broker.ErrBehind},
		"leader that has the event": {func() *jetstream.StreamInfo {
			return replied("b", time.Second, seen, follows("a"), follows("c"))
		}, false, broker.ErrBehind},
		"leader that lacks the event": {func() *jetstream.StreamInfo {
			return replied("b", time.Second, applied, follows("a"), follows("c"))
		}, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := nodeAt(applied)
				defer n.broker.Close()
				hears := func(info *jetstream.StreamInfo, serves bool) {
					t.Helper()
					found, err := describe(info)
					if err != nil {
						t.Fatal(err)
					}
					n.prober.note(info, found, request{time.Now().Add(-time.Millisecond), applied, "abc"}, time.Now())
					n.updateServing(time.Now())
					if serving, reason := n.Serving(); serving != serves {
						t.Errorf("serving is %t, want %t; the reason is %q", serving, serves, reason)
					}
				}
				hears(replied("a", time.Hour, applied, follows("b"), follows("c")), true)
				time.Sleep(partition)
				hears(replied("a", time.Hour+partition, applied, lastSeen("b", partition), lastSeen("c", partition)), false)

				opened := make(chan error, 1)
				go func() { opened <- n.broker.Await(t.Context(), fmt.Sprintf("abc-%d", seen*eventsPerEntry)) }()
				time.Sleep(wait)
				hears(test.reply(), test.serves)
				if err := <-opened; !errors.Is(err, test.want) {
					t.Errorf("Await = %v, want %v", err, test.want)
				}
			})
		})
	}
}

// nodeAt returns a node of a cluster that has applied entries.
func nodeAt(applied uint64) *Node {
	b := broker.New(broker.Config{Shards: 1, QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect, Heartbeat: 1 << 40, Replica: true})
	n := &Node{name: "a", broker: b, log: slog.New(slog.DiscardHandler), readWake: make(chan struct{}, 1)}
	n.prober = newProber(n)
	n.begin(eventLog{epoch: "abc", first: 1, last: applied})
	b.Advance((applied+1)*eventsPerEntry - 1)
	n.applied.Store(applied)
	return n
}

// TestReplicasWithoutContact checks that the leader's quorum doesn't include replicas that
// have never sent the leader anything.
func TestReplicasWithoutContact(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		info    *jetstream.StreamInfo
		led     bool
		silent  time.Duration
		trouble string
	}{
		"all follow":              {replied("a", time.Hour, 1, follows("b"), follows("c")), true, 10 * time.Millisecond, ""},
		"one was never seen":      {replied("a", time.Hour, 1, lastSeen("b", 2*time.Second), unseen("c")), true, 2 * time.Second, ""},
		"the other is lost":       {replied("a", time.Hour, 1, lastSeen("b", 8*time.Second), unseen("c")), true, 0, "only 1 of 3 replicas of the event log are reachable"},
		"just elected":            {replied("a", time.Second, 1, lastSeen("b", 1100*time.Millisecond), unseen("c")), true, time.Second, ""},
		"unknown when elected":    {replied("a", 0, 1, lastSeen("b", 8*time.Second), unseen("c")), true, 0, "only 1 of 3 replicas of the event log are reachable"},
		"not sent by the leader":  {replied("a", 0, 1, follows("a"), follows("c")), false, 0, "the event log has no leader"},
		"nobody has been elected": {replied("", 0, 1, follows("a"), follows("b"), follows("c")), false, 0, "the event log has no leader"},
	} {
		n := &Node{name: "a"}
		if silent, trouble := newProber(n).inspect(test.info, test.led); silent != test.silent || trouble != test.trouble {
			t.Errorf("%s: silent for %s, trouble %q; want %s, %q", name, silent, trouble, test.silent, test.trouble)
		}
	}
}

// TestDeposedLeader checks that the replies of a leader that may have been deposed while
// it was partitioned don't prove where the event log ends. Messages that were delayed
// until the end of the partition make such a leader appear to have a quorum.
func TestDeposedLeader(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	elected := map[string]time.Time{"a": begin.Add(-time.Hour), "b": begin.Add(5 * time.Second)}
	const ahead = time.Minute // the clocks of the leaders
	type reply struct {
		at     time.Duration
		leader string
		silent time.Duration
		want   bool
	}
	const s = time.Second
	for name, replies := range map[string][]reply{
		"no partition": {{0, "a", 0, true}, {s, "a", s, true}, {2 * s, "a", s, true}, {3 * s, "a", 0, true}, {5 * s, "a", s, true}},
		"partition": {
			{0, "a", 0, true}, {2 * s, "a", 2 * s, true}, {3 * s, "a", 3 * s, false}, {4 * s, "a", 4 * s, false},
			{12 * s, "a", 0, false}, {13 * s, "a", 0, false}, {15 * s, "a", 0, false}, {17 * s, "a", 0, false}, {19 * s, "a", 0, false},
			{21 * s, "a", 0, false}, {23 * s, "a", 0, false}, {25 * s, "a", 0, false}, {26 * s, "a", 0, false}, {27 * s, "a", 0, true}, {28 * s, "a", 4 * s, false},
		},
		"partition without replies": {{0, "a", 0, true}, {3 * s, "a", 0, false}, {4 * s, "a", 0, false}},
		"second partition": {
			{0, "a", 0, true}, {5 * s, "a", 0, false}, {7 * s, "a", 0, false}, {9 * s, "a", 0, false}, {11 * s, "a", 0, false},
			{16 * s, "a", 0, false}, {18 * s, "a", 0, false}, {20 * s, "a", 0, false}, {22 * s, "a", 0, false}, {24 * s, "a", 0, false},
			{26 * s, "a", 0, false}, {28 * s, "a", 0, false}, {30 * s, "a", 0, false}, {31 * s, "a", 0, true},
		},
		"new leader":                   {{0, "a", 0, true}, {7 * s, "b", 0, true}, {8 * s, "b", s, true}},
		"both leaders":                 {{0, "a", 0, true}, {7 * s, "b", 0, true}, {8 * s, "a", 0, false}, {9 * s, "a", 0, false}},
		"new leader, then partitioned": {{0, "a", 0, true}, {12 * s, "b", 0, false}, {13 * s, "b", 0, false}},
	} {
		var l leadership
		for _, r := range replies {
			info := replied(r.leader, 0, 1, follows("c"), follows("d"))
			now := begin.Add(r.at)
			info.TimeStamp = now.Add(ahead)
			since := elected[r.leader].Add(ahead)
			info.Cluster.LeaderSince = &since
			if got := l.note(info, r.silent, now); got != r.want {
				t.Errorf("%s: after %s, note = %t, want %t", name, r.at, got, r.want)
			}
		}
	}

	var l leadership
	for _, at := range []time.Duration{0, time.Minute} {
		if !l.note(&jetstream.StreamInfo{}, 0, begin.Add(at)) {
			t.Error("a single server isn't the leader")
		}
	}
}
