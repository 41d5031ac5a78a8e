package broker

import "slices"

// group holds the streams of one shard that belong to one audience. It is owned
// by the shard's goroutine.
type group struct {
	members []*Stream
	closed  int // closed members; they are skipped, and removed when there are many
}

// each calls f for every member that is not closed. f may close members, but
// must not add any.
func (g *group) each(f func(*Stream)) {
	g.compact()
	for _, st := range g.members {
		if st.phase != phaseClosed {
			f(st)
		}
	}
}

func (g *group) add(st *Stream) {
	g.compact()
	g.members = append(g.members, st)
}

// memberClosed records that a member has been closed. The member stays in the
// list for now, so that the cost of leaving doesn't depend on the group's size.
func (g *group) memberClosed() { g.closed++ }

// compact removes the closed members if more than half of the members are closed.
func (g *group) compact() {
	if 2*g.closed > len(g.members) {
		g.members = slices.DeleteFunc(g.members, func(st *Stream) bool { return st.phase == phaseClosed })
		g.closed = 0
	}
}
