package control_test

import (
	"maps"
	"testing"
	"time"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

func TestStatsOfHistoryLagAndDescriptors(t *testing.T) {
	since := time.Unix(1_790_000_000, 0)
	b := &fakeBroker{stats: broker.Stats{
		Topics: 7, ByAudience: broker.ByAudience{Broadcast: 1, User: 2, Topic: 3}, LogEvents: 5, LogBytes: 6000, LogSince: since,
		Resumes: broker.Resumes{Ended: 4},
		Since:   broker.Resumes{Replayed: 11, Resets: map[string]int64{"expired": 12}},
		Rewinds: broker.Resumes{Replayed: 13, Ended: 14},
		Polls:   broker.Polls{Waiting: 15, Answered: map[string]int64{"events": 16, "empty": 0, "abandoned": 17}},
		Reads:   broker.ByAudience{Broadcast: 18, User: 19, Topic: 20},
		Total:   broker.ShardStats{WaitingEvents: 8, Lag: 1500 * time.Millisecond},
	}}
	p := start(t, control.Config{Descriptors: func() (int, int) { return 9, 10 }}, b, nil)
	reply, err := p.Stats(t.Context(), &pealv1.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}

	by, log := reply.GetPublishedByAudience(), reply.GetLog()
	if by.GetBroadcast() != 1 || by.GetUser() != 2 || by.GetTopic() != 3 || reply.GetTopics() != 7 ||
		log.GetEvents() != 5 || log.GetBytes() != 6000 || !log.GetSince().AsTime().Equal(since) || reply.GetResumes().GetEnded() != 4 ||
		reply.GetSince().GetReplayed() != 11 || reply.GetSince().GetResets()["expired"] != 12 ||
		reply.GetRewinds().GetReplayed() != 13 || reply.GetRewinds().GetEnded() != 14 ||
		reply.GetTotal().GetWaitingEvents() != 8 || reply.GetTotal().GetLag().AsDuration() != 1500*time.Millisecond ||
		reply.GetDescriptors().GetUsed() != 9 || reply.GetDescriptors().GetAllowed() != 10 {
		t.Errorf("%v", reply)
	}

	polls, reads := reply.GetPolls(), reply.GetReads()
	if polls.GetWaiting() != 15 || !maps.Equal(polls.GetAnswered(), map[string]int64{"events": 16}) || polls.GetAbandoned() != 17 {
		t.Errorf("polls: %v", polls)
	}

	if reads.GetBroadcast() != 18 || reads.GetUser() != 19 || reads.GetTopic() != 20 {
		t.Errorf("reads: %v", reads)
	}

	b.stats = broker.Stats{}
	unknown := start(t, control.Config{}, b, nil)
	reply, err = unknown.Stats(t.Context(), &pealv1.StatsRequest{})
	if err != nil || reply.GetLog().GetSince() != nil || reply.GetDescriptors() != nil {
		t.Errorf("empty history and unknown descriptors: %v, %v", reply, err)
	}
}

// The buckets of Stats are cumulative, although there are fewer than in the
// broker's histogram.
func TestLatencyInStatsIsCumulative(t *testing.T) {
	b := &fakeBroker{latency: startBroker(t).Latency()}
	bounds := b.latency.Bounds

	for i := range b.latency.Counts {
		b.latency.Counts[i] = int64(i + 1)
	}

	b.latency.Sum = 1234.5
	p := start(t, control.Config{}, b, nil)
	reply, err := p.Stats(t.Context(), &pealv1.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}

	h := reply.GetLatency()
	if all := int64(len(bounds) + 1); h.GetCount() != all*(all+1)/2 || h.GetSum() != 1234.5 {
		t.Errorf("%d observations with a sum of %v s", h.GetCount(), h.GetSum())
	}

	if n := len(h.GetBuckets()); n < 40 || n > 60 {
		t.Errorf("%d buckets, want about 50", n)
	}

	last := 0.0

	for _, bucket := range h.GetBuckets() {
		bound := bucket.GetUpperBound()
		if want := b.latency.AtMost(bound); bucket.GetCount() != want {
			t.Errorf("%d observations of at most %v, want %d", bucket.GetCount(), bound, want)
		}

		if last > 0 && (bound < 1.4*last || bound > 1.53*last) {
			t.Errorf("bound %v is followed by %v", last, bound)
		}

		last = bound
	}

	if last < 300 || h.GetBuckets()[0].GetUpperBound() > 0.000_01 {
		t.Errorf("bounds from %v to %v, want 10 µs to minutes", h.GetBuckets()[0].GetUpperBound(), last)
	}
}

func TestStats(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{Version: "v1.2.3", MaxConnections: 5000}, b, nil)
	stream(t, b, "alice").waitFor(t, "\n\n")
	lost := &sink{grown: make(chan struct{}, 1)}
	if err := b.NewStream(broker.Subscription{LastEventID: "other-1"}).Start(lost, broker.Opening{}); err != nil {
		t.Fatal(err)
	}

	lost.waitFor(t, "\n\n")
	if _, err := p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "hi"}); err != nil {
		t.Fatal(err)
	}

	reply, err := p.Stats(t.Context(), &pealv1.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}

	if n := reply.GetResumes().GetResets()["unknown"]; n != 1 || reply.GetResumes().GetReplayed() != 0 {
		t.Errorf("resumes: %v", reply.GetResumes())
	}

	total := reply.GetTotal()
	if total.GetConnections() != 2 || total.GetAuthenticatedConnections() != 1 || total.GetConnected() != 2 || reply.GetUsers() != 1 ||
		reply.GetPublished() != 1 || len(reply.GetShards()) != 2 || reply.GetVersion() != "v1.2.3" || reply.GetMaxConnections() != 5000 ||
		time.Since(reply.GetStartedAt().AsTime()) > time.Minute {
		t.Errorf("%v", reply)
	}

	for i, shard := range reply.GetShards() {
		if int(shard.GetShard()) != i {
			t.Errorf("row %d has shard %d", i, shard.GetShard())
		}
	}
}
