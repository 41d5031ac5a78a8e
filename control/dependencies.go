package control

import (
	"context"
	"time"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// Broker publishes messages and keeps track of the open streams. *broker.Broker
// implements it. Its methods must be safe for concurrent use.
type Broker interface {
	History
	Streams

	Publish(ctx context.Context, m broker.Message) (broker.Receipt, error)
	ClearRetained(ctx context.Context, c broker.Clear) (cleared int, err error)
	Stats() broker.Stats
	Latency() broker.Histogram
}

// Streams lists, watches and closes open streams. Its methods must be safe for
// concurrent use.
type Streams interface {
	Users(prefix, after string, limit int) []broker.User
	Topics(prefix, after string, limit int) []broker.Topic
	Subscribers(ctx context.Context, q broker.SubscriberList) (broker.Subscribers, error)
	Disconnect(user string, ban time.Duration) (closed int, err error)
	Watch() (*broker.Watch, error)
	WatchTopic(ctx context.Context, topic string) (*broker.Watch, error)
}

// History reads published messages. Its methods must be safe for concurrent use.
type History interface {
	Position() (id string, err error)
	RetainedAudiences(ctx context.Context, q broker.RetainedList) (broker.RetainedPage, error)
	ReadMessages(ctx context.Context, q broker.Read) (broker.ReadPage, error)
	Tap(of broker.Audience, lastEventID string) (*broker.Tap, error)
}

// Pipeline is implemented by a Broker that can accept more messages while earlier ones
// wait, for example for a quorum. Messages from one goroutine are published in the
// order in which it submits them.
type Pipeline interface {
	Submit(ctx context.Context, m broker.Message) (wait func(context.Context) (broker.Receipt, error), err error)
}

// Minter signs subscriber tokens.
type Minter interface {
	Mint(user string, topics []string, ttl time.Duration) (token string, expires time.Time, err error)
}

// Cluster provides access to the other nodes of a cluster. Its methods must be
// safe for concurrent use.
type Cluster interface {
	// Name returns the name of this node.
	Name() string
	// Nodes returns all nodes, including this one, sorted by name.
	Nodes() []*pealv1.Node
	// Query calls [Service.HandleQuery] on all other nodes, and passes their responses
	// to receive, one at a time. It returns the sorted names of the nodes that didn't
	// respond in time.
	Query(ctx context.Context, method string, request []byte, receive func(node string, response []byte)) (missing []string)
	// Watch runs [Service.HandleWatch] on all other nodes, including those that
	// join later, until ctx is done. It calls started first, with the names of
	// the nodes that are reachable.
	Watch(ctx context.Context, method string, request []byte, receiver Receiver, started func(nodes []string))
}

// Receiver receives the responses to a watch. Its methods are called one at a
// time.
type Receiver = interface {
	// Receive is called with a node's next responses, in order.
	Receive(node string, responses [][]byte)
	// Restart is called when a node's responses have been lost and the node is about to
	// start over.
	Restart(node string)
	// End is called when a node will send no more responses.
	End(node string)
}

// Membership removes members from a cluster. Its methods must be safe for
// concurrent use.
type Membership interface {
	// Remove permanently removes a member, and returns the sorted names of the
	// remaining members. Its error is a *MembershipError or one of the errors that a
	// [Broker] returns.
	Remove(ctx context.Context, name string) (members []string, err error)
}
