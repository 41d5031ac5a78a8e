package cluster

import (
	"math"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The event log's state is only complete in a reply from its leader. Two other replicas
// may reply as well:
//
//   - While a group has no leader, JetStream lets any replica reply. Such a replica may
//     lack entries. If a leader is elected while it replies, its reply names that leader,
//     and has no times of contact, as if all replicas had just been in contact.
//   - A leader that was partitioned, and deposed in the meantime, replies until it notices.
//     Once it is reconnected, messages from before the partition may arrive first, as if
//     the replicas that sent them still followed it.

// noContact is Member.Silent for a replica that hasn't been in contact, if it isn't known
// since when.
const noContact time.Duration = math.MaxInt64

// fromLeader reports whether the event log's leader has sent info, in reply to a request
// that took the given time. embedded is true if the servers are known to send the time
// since when they have led, as versions from 2.12 on do.
func fromLeader(info *jetstream.StreamInfo, took time.Duration, embedded bool) bool {
	c := info.Cluster
	switch {
	case c == nil || c.Leader == "" && len(c.Replicas) == 0:
		return true // there is only one server
	case c.Leader == "":
		return false
	case c.LeaderSince != nil:
		// The state in a reply is older than its leader.
		return info.TimeStamp.Sub(*c.LeaderSince) > took
	case len(c.Replicas) == 0:
		return info.Config.Replicas <= 1
	case embedded:
		return false
	}
	// A server doesn't list itself.
	return !slices.ContainsFunc(c.Replicas, func(r *jetstream.PeerInfo) bool { return r.Name == c.Leader })
}

// membersOf returns the replicas of the event log. led is true if the leader has sent
// info. Otherwise, none of them counts as the leader.
func membersOf(info *jetstream.StreamInfo, led bool, name string) []Member {
	c := info.Cluster
	if c == nil || c.Leader == "" && len(c.Replicas) == 0 {
		return []Member{{Name: name, Leader: true, Current: true}}
	}
	members := []Member{}
	if led {
		members = append(members, Member{Name: c.Leader, Leader: true, Current: true})
	}
	for _, r := range c.Replicas {
		silent := r.Active
		if silent == 0 && !r.Current {
			// The leader has received nothing from it. A quorum has voted for the leader.
			if silent = noContact; led && c.LeaderSince != nil {
				silent = info.TimeStamp.Sub(*c.LeaderSince)
			}
		}
		members = append(members, Member{r.Name, false, r.Current && !r.Offline, silent, r.Lag})
	}
	return members
}

// leadership tracks whether the leader of the event log may have been deposed without
// noticing. Only a leader without contact to a quorum for noElectionFor may have been.
type leadership struct {
	leader string
	since  time.Time // when it was elected, by its own clock; zero if unknown
	// contact holds the time of the leader's last contact with a quorum.
	contact time.Time
	// regained holds the time of its first contact after it may have been deposed; zero if
	// it can't have been.
	regained time.Time
}

// note records that the leader has sent info, and that its last contact with a quorum was
// silent before now. note reports whether the leader still led the event log at that time.
//
// A leader that may have been deposed doesn't count until it has been in contact for
// partitionedAfter. If another leader had been elected, the first reply from a replica
// that follows that one would have deposed it.
func (l *leadership) note(info *jetstream.StreamInfo, silent time.Duration, now time.Time) bool {
	c := info.Cluster
	if c == nil || len(c.Replicas) == 0 {
		*l = leadership{}
		return true // there is no other replica that could be elected
	}
	var since time.Time
	if c.LeaderSince != nil {
		since = *c.LeaderSince
	}

	contact := now.Add(-silent)
	switch {
	case l.contact.IsZero():
		l.contact = contact // nothing indicates a partition
	case c.Leader != l.leader || !since.Equal(l.since):
		l.regained = time.Time{}
		if c.LeaderSince != nil {
			l.contact = now.Add(-info.TimeStamp.Sub(since)) // a quorum voted for it
		}
	}
	if contact.Sub(l.contact) >= noElectionFor {
		l.regained = contact
	}
	l.leader, l.since = c.Leader, since
	if contact.After(l.contact) {
		l.contact = contact
	}
	return silent < noElectionFor && (l.regained.IsZero() || contact.Sub(l.regained) >= partitionedAfter)
}
