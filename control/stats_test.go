package control_test

import (
	"testing"
	"time"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

func TestStatsTellOfLogLagAndDescriptors(t *testing.T) {
	since := time.Unix(1_790_000_000, 0)
	b := &fake{stats: broker.Stats{
		Topics: 7, ByAudience: broker.ByAudience{Broadcast: 1, User: 2, Topic: 3}, LogEvents: 5, LogBytes: 6000, LogSince: since,
		Resumes: broker.Resumes{Ended: 4},
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
		reply.GetTotal().GetWaitingEvents() != 8 || reply.GetTotal().GetLag().AsDuration() != 1500*time.Millisecond ||
		reply.GetDescriptors().GetUsed() != 9 || reply.GetDescriptors().GetAllowed() != 10 {
		t.Errorf("%v", reply)
	}

	b.stats = broker.Stats{}
	silent := start(t, control.Config{}, b, nil)
	reply, err = silent.Stats(t.Context(), &pealv1.StatsRequest{})
	if err != nil || reply.GetLog().GetSince() != nil || reply.GetDescriptors() != nil {
		t.Errorf("an empty log and unknown descriptors: %v, %v", reply, err)
	}
}

// TestLatencyInStatsIsCumulative holds that the buckets of Stats have what those
// of the broker have, whatever is between their bounds.
func TestLatencyInStatsIsCumulative(t *testing.T) {
	b := &fake{latency: startBroker(t).Latency()}
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
		t.Errorf("%d observations, %v s in all", h.GetCount(), h.GetSum())
	}
	if n := len(h.GetBuckets()); n < 40 || n > 60 {
		t.Errorf("there are %d buckets, want some 50", n)
	}
	last := 0.0
	for _, bucket := range h.GetBuckets() {
		bound := bucket.GetUpperBound()
		if want := b.latency.AtMost(bound); bucket.GetCount() != want {
			t.Errorf("%d observations of at most %v, want %d", bucket.GetCount(), bound, want)
		}
		if last > 0 && (bound < 1.4*last || bound > 1.53*last) {
			t.Errorf("after %v comes %v", last, bound)
		}
		last = bound
	}
	if last < 300 || h.GetBuckets()[0].GetUpperBound() > 0.000_01 {
		t.Errorf("from %v to %v, want 10 µs to minutes", h.GetBuckets()[0].GetUpperBound(), last)
	}
}
