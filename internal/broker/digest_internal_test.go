package broker

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func brokerForDigests(t *testing.T) *Broker {
	t.Helper()
	b := New(Config{Shards: 1, Heartbeat: time.Second, QueueBytes: 1})
	t.Cleanup(b.Close)
	return b
}

// TestDigestsOfWantedAudiences checks that a stream's filter matches the digests of all
// audiences that the stream belongs to.
func TestDigestsOfWantedAudiences(t *testing.T) {
	b := brokerForDigests(t)
	token := rapid.SampledFrom([]string{"", "a", "b", "*", ">", "a*", "longer", "\u00e9"})
	name := rapid.Custom(func(rt *rapid.T) string {
		return strings.Join(rapid.SliceOfN(token, 1, 12).Draw(rt, "tokens"), ".")
	})
	rapid.Check(t, func(rt *rapid.T) {
		d := newDigester()
		sub := Subscription{User: rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "user")}
		for _, pattern := range rapid.SliceOfN(name, 0, 4).Draw(rt, "topics") {
			if ValidPattern(pattern) == nil {
				sub.Topics = append(sub.Topics, pattern)
			}
		}
		st := b.NewStream(sub)
		f := d.filter(st)
		audiences := []Audience{Everyone(), ToUser("a"), ToUser("b"), ToTopic(strings.Repeat("a.", 126) + "a")}
		for _, topic := range append(rapid.SliceOfN(name, 1, 20).Draw(rt, "published"), sub.Topics...) {
			if ValidTopic(topic) == nil {
				audiences = append(audiences, ToTopic(topic))
			}
		}
		for _, a := range audiences {
			if st.wants(a) && !f.matches(d.of(a)) {
				rt.Fatalf("a stream with %+v wants %v, but its filter doesn't match", sub, a)
			}
		}
	})
}

// TestDigestsOfOtherAudiences checks that filters skip almost all audiences that a stream
// doesn't belong to.
func TestDigestsOfOtherAudiences(t *testing.T) {
	b := brokerForDigests(t)
	for _, pattern := range []string{"prices.*.asks", "prices.*", "orders.>", "*.8.*", "prices"} {
		st := b.NewStream(Subscription{User: "alice", Topics: []string{pattern}})
		matched := 0
		const attempts = 1000 // each with other hashes
		for range attempts {
			d := newDigester()
			for _, a := range []Audience{ToTopic("prices.7.bids"), ToUser("bob")} {
				if d.filter(st).matches(d.of(a)) {
					matched++
				}
			}
		}
		if matched > attempts/20 {
			t.Errorf("%s: %d of %d other audiences match", pattern, matched, 2*attempts)
		}
	}
}
