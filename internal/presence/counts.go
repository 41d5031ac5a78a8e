package presence

import (
	"time"

	"github.com/nats-io/nats-server/v2/server/gsl"

	presencev1 "github.com/peald/peald/gen/peal/presence/v1"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// counts holds the stream counts that a node has announced.
type counts struct {
	streams, anonymous int
	users, topics      map[string]uint32
	patterns           *gsl.GenericSublist[string] // the topics that are patterns
}

func newCounts() *counts {
	return &counts{users: make(map[string]uint32), topics: make(map[string]uint32), patterns: gsl.NewSublist[string]()}
}

// apply applies an announcement.
func (c *counts) apply(a *presencev1.Announcement) {
	c.streams, c.anonymous = int(a.GetStreams()), int(a.GetAnonymous())
	c.add(a.GetChanged())
}

// add adds or replaces counts.
func (c *counts) add(changed *presencev1.Counts) {
	for _, u := range changed.GetUsers() {
		if u.GetStreams() == 0 {
			delete(c.users, u.GetName())
		} else {
			c.users[u.GetName()] = u.GetStreams()
		}
	}

	for _, t := range changed.GetTopics() {
		_, had := c.topics[t.GetName()]
		has := t.GetStreams() > 0
		if has {
			c.topics[t.GetName()] = t.GetStreams()
		} else {
			delete(c.topics, t.GetName())
		}
		if had == has || !(broker.Topic{Name: t.GetName()}).IsPattern() {
			continue
		}
		// gsl accepts every valid pattern. A pattern that it rejects matches nothing.
		if has {
			_ = c.patterns.Insert(t.GetName(), t.GetName())
		} else {
			_ = c.patterns.Remove(t.GetName(), t.GetName())
		}
	}
}

// of estimates the number of streams in an audience. A stream that matches through
// several patterns may be counted once for each of them.
func (c *counts) of(to broker.Audience) int {
	if user, ok := to.User(); ok {
		return int(c.users[user])
	}
	topic, ok := to.Topic()
	if !ok {
		return c.streams
	}
	sum := int(c.topics[topic])
	if c.patterns.Count() > 0 {
		c.patterns.Match(topic, func(pattern string) { sum += int(c.topics[pattern]) })
	}
	return min(sum, c.streams)
}

// Elsewhere returns the number of streams that a user has on other nodes, according to
// their announcements. It leaves out nodes that may be dead or are closing their
// streams, because those streams reconnect before the node is known to be lost.
func (d *Directory) Elsewhere(user string) int {
	now := time.Now()
	d.mu.RLock()
	defer d.mu.RUnlock()
	sum := 0
	for _, n := range d.nodes {
		if n.counts != nil && now.Sub(n.seen) < countedFor && n.status.GetState() == pealv1.NodeState_NODE_STATE_SERVING {
			sum += int(n.counts.users[user])
		}
	}
	return sum
}

// Recipients estimates the number of streams in an audience on other nodes.
func (d *Directory) Recipients(to broker.Audience) int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	sum := 0
	for _, n := range d.nodes {
		if n.counts != nil {
			sum += n.counts.of(to)
		}
	}
	return sum
}
