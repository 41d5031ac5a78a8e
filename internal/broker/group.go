package broker

import "slices"

// group is the streams of one shard that an audience has there. It belongs to
// the shard's goroutine.
type group struct {
	members []*Stream
	ended   int // members that have ended; they are skipped, and weeded out when they are many
}

// each calls f for every member that has not ended. f may end members, but not
// add any.
func (g *group) each(f func(*Stream)) {
	g.weed()
	for _, st := range g.members {
		if !st.closed {
			f(st)
		}
	}
}

func (g *group) add(st *Stream) {
	g.weed()
	g.members = append(g.members, st)
}

// oneEnded notes that one of the members has ended. It stays where it is for
// now, so that leaving costs the same however large the group is.
func (g *group) oneEnded() { g.ended++ }

func (g *group) weed() {
	if 2*g.ended > len(g.members) {
		g.members = slices.DeleteFunc(g.members, func(st *Stream) bool { return st.closed })
		g.ended = 0
	}
}
