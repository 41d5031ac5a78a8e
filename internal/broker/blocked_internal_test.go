package broker

import (
	"testing"

	"pgregory.net/rapid"
)

// TestBlockedWrites lists streams whose sinks accept bytes at random. The list has
// each of them once, with the longest-blocked first.
func TestBlockedWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			list    blockedWrites
			now     int64
			streams []*Stream
		)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(*rapid.T) {
				st := &Stream{blockedSince: now}
				streams = append(streams, st)
				list.add(st)
			},
			"accept": func(t *rapid.T) {
				if len(streams) == 0 {
					t.Skip("no streams")
				}
				rapid.SampledFrom(streams).Draw(t, "stream").blockedSince = now
			},
			"wait": func(t *rapid.T) { now += rapid.Int64Range(1, 10).Draw(t, "time") },
			"expire": func(t *rapid.T) {
				oldest := now - rapid.Int64Range(0, 20).Draw(t, "timeout")
				for len(list) > 0 && list[0].since <= oldest {
					if list[0].stream.blockedSince > oldest {
						list.moveFirst()
					} else {
						list[0].stream.blockedSince = -1
						list.removeFirst()
					}
				}
				listed := streams[:0]
				for _, st := range streams {
					if st.blockedSince >= 0 && st.blockedSince <= oldest {
						t.Fatalf("a stream that was blocked at %d isn't removed at %d", st.blockedSince, oldest)
					}
					if st.blockedSince >= 0 {
						listed = append(listed, st)
					}
				}
				streams = listed
			},
			"": func(t *rapid.T) {
				if len(list) != len(streams) {
					t.Fatalf("%d elements for %d streams", len(list), len(streams))
				}
				for i := range list {
					if list[i].since > list[i].stream.blockedSince || list[i].since < list[max(i-1, 0)/2].since {
						t.Fatalf("element %d is out of order", i)
					}
				}
			},
		})
	})
}
