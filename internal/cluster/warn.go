package cluster

import (
	"slices"
	"strings"
	"time"
)

// The prober logs a problem only when the problem starts and when it ends, rather than
// every second.

const (
	// searchWarnAfter is how long a node searches for its event log before it logs a
	// warning. The first start of a cluster takes several seconds.
	searchWarnAfter = 15 * time.Second
	// quorumWarnAfter is how long the event log may be without a quorum before a node
	// logs a warning. Most elections take less time.
	quorumWarnAfter = 8 * time.Second
	// replicasWarnAfter is how long the event log may be under-replicated before a node
	// logs a warning. Nodes start one after another, and a replica takes a while to
	// catch up.
	replicasWarnAfter = 30 * time.Second
)

// warnings tracks problems that have been logged and aren't over yet.
type warnings struct {
	searchSince   time.Time // when the node began to search for its event log; zero while it can read the log
	search        bool
	quorum        bool
	replicasSince time.Time // when the event log became under-replicated; zero while it isn't
	replicas      bool
	settings      string // why this node's settings can't be applied to the event log; empty if they have been
}

// warn logs new problems with the event log, and problems that are over.
func (p *prober) warn(now time.Time) {
	n, w := p.node, &p.warned
	n.mu.Lock()
	s := n.state
	n.mu.Unlock()

	switch {
	case s.epoch != "" && s.readError == "":
		w.searchSince, w.search = time.Time{}, false
	case w.searchSince.IsZero():
		w.searchSince = now
	case now.Sub(w.searchSince) <= searchWarnAfter || w.search:
	case s.epoch != "":
		n.log.Warn("cannot catch up with the event log", "entry", n.applied.Load(), "last", s.known, "error", s.readError)
		w.search = true
	default:
		n.log.Warn("event log not found yet", "reason", s.trouble)
		w.search = true
	}

	switch lost := !s.quorumAt.IsZero() && now.Sub(s.quorumAt) > quorumWarnAfter; {
	case lost && !w.quorum:
		n.log.Warn("event log has no quorum", "reason", s.trouble)
		w.quorum = true
	case !lost && w.quorum:
		n.log.Info("event log has a quorum again", "leader", s.leader)
		w.quorum = false
	}

	following, want := countFollowing(s.members), n.wantedReplicas(&s)
	switch {
	case following >= want || s.trouble != "" || s.epoch == "":
		if w.replicas && following >= want {
			n.log.Info("event log fully replicated again", "replicas", following)
			w.replicas = false
		}
		w.replicasSince = time.Time{}
	case w.replicasSince.IsZero():
		w.replicasSince = now
	case now.Sub(w.replicasSince) > replicasWarnAfter && !w.replicas:
		n.log.Warn("event log under-replicated", "replicas", following, "want", want,
			"nodes", strings.Join(s.clusterMembers, ", "), "on", strings.Join(namesOf(s.members), ", "))
		w.replicas = true
	}
}

// wantedReplicas returns how many replicas the event log should have. In a cluster with
// enough nodes for more, one is too few, even if that is what is configured.
func (n *Node) wantedReplicas(s *state) int {
	want := max(n.cfg.Replicas, s.replicas)
	if want <= 1 && len(s.clusterMembers) >= defaultReplicas {
		want = max(want, defaultReplicas)
	}
	return want
}

// countFollowing returns the number of replicas in contact with the leader,
// including the leader. It is 0 if there is no leader.
func countFollowing(members []Member) (following int) {
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
