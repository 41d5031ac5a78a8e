package cluster

import (
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// An operator is told of a trouble when it begins, and when it has passed, and
// not each second between.

const (
	// seekFor is how long a node looks for its log until that is said: the
	// first start of a cluster takes some seconds.
	seekFor = 15 * time.Second
	// quorumAfter is how long the log may be without a quorum until that is
	// said: most elections take less.
	quorumAfter = 8 * time.Second
	// thinAfter is how long the log may have fewer replicas than it should
	// until that is said: nodes start one after the other, and a replica takes
	// a while to be filled.
	thinAfter = 30 * time.Second
	// refusedAnew is after how much silence a connection that is refused is the
	// first one again. They are tried every second.
	refusedAnew = time.Minute
	// refusedLately is for how long a refusal explains why a node has no
	// cluster.
	refusedLately = 10 * time.Second
)

// worries are what an operator was told of and has not passed yet. They are the
// prober's own.
type worries struct {
	seeking  time.Time // when the node began to look for its log; zero while it has one
	sought   bool
	quorum   bool
	since    time.Time // when the log began to have too few replicas; zero while it has enough
	thin     bool
	settings string // why the log is not as configured
}

// worry tells the operator what has come to be wrong with the log, and what is
// right again.
func (n *Node) worry(now time.Time) {
	n.mu.Lock()
	s := n.state
	n.mu.Unlock()
	w := &n.worries
	switch {
	case s.epoch != "" && s.unread == "":
		w.seeking, w.sought = time.Time{}, false
	case w.seeking.IsZero():
		w.seeking = now
	case now.Sub(w.seeking) <= seekFor || w.sought:
	case s.epoch != "":
		n.log.Warn("cannot catch up with the event log", "entry", n.applied.Load(), "last", s.known, "error", s.unread)
		w.sought = true
	default:
		n.log.Warn("the cluster's log is not found yet", "reason", s.trouble)
		w.sought = true
	}
	silent := now.Sub(s.quorum)
	switch lost := !s.quorum.IsZero() && silent > quorumAfter; {
	case lost && !w.quorum:
		n.log.Warn("nothing can be published: the cluster's log has no leader that enough replicas follow, as far as this node knows", "reason", s.trouble)
		w.quorum = true
	case !lost && w.quorum:
		n.log.Info("the cluster's log takes messages again", "leader", s.leader)
		w.quorum = false
	}
	following, want := follow(s.members), n.wanted(&s)
	switch {
	case following >= want || s.trouble != "" || s.epoch == "":
		if w.thin && following >= want {
			n.log.Info("the cluster's log has its replicas again", "replicas", following)
			w.thin = false
		}
		w.since = time.Time{}
	case w.since.IsZero():
		w.since = now
	case now.Sub(w.since) > thinAfter && !w.thin:
		n.log.Warn("the cluster's log has fewer replicas than it should: it outlives the loss of fewer nodes",
			"replicas", following, "want", want, "nodes", strings.Join(s.counted, ", "), "on", strings.Join(namesOf(s.members), ", "))
		w.thin = true
	}
}

// wanted is how many replicas the log should have. One is not enough where there
// are nodes for more, though an operator may have said so.
func (n *Node) wanted(s *state) int {
	want := max(n.cfg.Replicas, s.replicas)
	if want <= 1 && len(s.counted) >= defaultReplicas {
		want = max(want, defaultReplicas)
	}
	return want
}

// follow is how many replicas follow, their leader among them; none where there
// is no leader.
func follow(members []Member) (following int) {
	if !slices.ContainsFunc(members, func(m Member) bool { return m.Leader }) {
		return 0
	}
	for _, m := range members {
		if m.Leader || m.Silent < replicaSilence {
			following++
		}
	}
	return following
}

func namesOf(members []Member) (names []string) {
	for _, m := range members {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}

// refusals are connections between nodes that one of them refused.
type refusals struct {
	mu   sync.Mutex
	last map[string]time.Time // by who was refused, and why

	latest   string // the last one, for an operator
	latestAt time.Time
}

// current describes the last refusal, if there was one lately; else it is empty.
func (r *refusals) current(now time.Time) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.latest == "" || now.Sub(r.latestAt) > refusedLately {
		return ""
	}
	return r.latest
}

// note has current describe a refusal.
func (r *refusals) note(what string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest, r.latestAt = what, now
}

// denied notes what the servers don't permit the node to do. They drop such a
// request, which then gets no answer.
func (n *Node) denied(err error, now time.Time) {
	_, what, _ := strings.Cut(err.Error(), nats.ErrPermissionViolation.Error()+": ")
	n.denials.note("the NATS servers deny a permission: "+what, now)
	if n.denials.first(what, now) {
		n.log.Warn("permission denied by the NATS servers", "error", what)
	}
}

// first says whether a refusal is the first one of its kind in a while.
func (r *refusals) first(which string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, known := r.last[which]
	if r.last == nil {
		r.last = make(map[string]time.Time)
	}
	for other, at := range r.last {
		if now.Sub(at) > refusedAnew {
			delete(r.last, other)
		}
	}
	r.last[which] = now
	return !known || now.Sub(before) > refusedAnew
}

// sameName is what is likely where a node has the name of one that connects.
const sameName = "another node has this node's name: one of them runs on a copy of the other's cluster.dir"

// refusal is what the server's words say of a connection between nodes that was
// refused: at which address, and what is likely. Of one that came, the port
// tells nothing.
func refusal(text string) (addr, what string, ok bool) {
	addr, said, found := strings.Cut(text, " - rid:")
	if !found {
		return "", "", false
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", "", false
	}
	switch {
	case strings.Contains(said, "duplicate name"):
		return host, sameName, true
	case strings.Contains(said, "Authorization Violation"):
		return addr, "another node refuses this one: it has another cluster.secret, or none, most likely", true
	case strings.HasSuffix(said, "authentication error"): // without a user: what came was no greeting of a node
		return host, "another node is refused: it has cluster.tls, which this one hasn't, most likely", true
	case strings.Contains(said, "authentication error"):
		return host, "another node is refused: it has another cluster.secret, or none, most likely", true
	case strings.Contains(said, "cluster name"):
		return host, "another node is refused: it has another cluster.name", true
	case strings.Contains(said, "handshake error"):
		return host, "there is no TLS with another node: its cluster.tls is not as this one's, most likely", true
	}
	return "", "", false
}
