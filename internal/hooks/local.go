package hooks

import "github.com/peald/peald/internal/broker"

// local is the Source of a daemon that isn't part of a cluster.
type local struct {
	broker  *broker.Broker
	changes *broker.Changes
}

// Local returns a Source for the streams of one broker. Nothing else may use the
// broker's Changes.
func Local(b *broker.Broker) Source { return &local{b, b.Changes()} }

func (l *local) Take() (users []broker.User, topics []broker.Topic, complete bool) {
	users, topics, _, complete = l.changes.Take()
	return users, topics, complete
}

func (l *local) All() (users, topics []string) { return l.broker.Names() }
func (l *local) Settled() bool                 { return true }
func (l *local) Close()                        { l.changes.Stop() }
