// Package cluster makes several daemons one: what is published on any of them
// goes out on all, under the same ids and in the same order, so that a client
// may resume on any. The engine is NATS JetStream, run inside each daemon or by
// somebody else.
//
// # The stream is the log
//
// One JetStream stream holds the messages of all audiences. Users and topics
// are data in it, never subjects: a subject has to be free of spaces and
// wildcards, ids of users are whatever an application has, and one order for
// all is what makes an event's id a position for every stream.
//
// A [Node] appends what its publishers hand it, and reads all of the stream,
// in its order, into its [broker.Broker], which fills its own log and delivers
// to the streams that it holds. So resuming is the broker's own code, on
// whatever node a client comes to.
//
// # Appending
//
// A node has one append in flight. What its publishers hand it meanwhile goes
// together into the next message of the stream, a batch: under load a disk that
// is waited for and a round to the other nodes serve hundreds of messages, and
// a single one waits for nothing. An event's sequence is that of its batch in
// the stream, times [eventsPerEntry], plus its place in the batch.
//
// It also keeps order where things fail. An append whose answer is lost is
// repeated until it is known to be in the stream or given up, and only then
// comes the next. The stream drops a repetition by its Nats-Msg-Id; and as each
// batch has its node's incarnation and a number that grows, readers drop one
// that comes after a later one, as when it was given up and was still on its
// way. With a message of the stream for each event and many of them in flight,
// one that fails in the middle would be behind those that followed it.
//
// # Idempotency keys
//
// They are not the stream's Nats-Msg-Id, which would bind a key to the window
// of the stream's memory and to a batch, and could not tell a repetition from
// another message under the same key. Each node decides for itself, in the
// broker, and all have to decide alike: an event that is one on some nodes only
// would be a hole on the others.
//
// Nodes don't know the same keys. One that starts reads them out of the stream,
// which lets entries go by age, and when it has grown too large, perhaps before
// their keys' window has passed; and broker.Broker forgets keys where they are
// too many. So what is known of a key stands in the log too: the node that
// appends a batch writes down up to which event it has applied the log, and for
// each message whether its key was known by then, and for which event
// (broker.Verdict). Readers take its word for what is up to that event, whatever
// they know themselves, and judge what came behind it, which is as much as was
// in flight, by what they have read. All who have read that far back, some
// milliseconds as a rule, decide alike; for others these are the first entries
// that they read of the stream, which is kept longer than the broker's own log.
//
// The promise has a limit, then: a key is known for its window by nodes that ran
// all that time, and by one that started meanwhile as far as the stream went
// back. The stream has room for eight times history.max_bytes, at least 1 GiB.
//
// # Reading
//
// The stream republishes each message that it has taken in, to which every node
// subscribes; what a node lacks, when it starts or finds a gap in the
// sequences, it asks a replica of the stream for. A consumer, JetStream's own
// way to read, would live on some node and end with it, and be made anew by
// another that has to be elected first.
//
// # Being cut off
//
// Once a second a node asks the stream's leader how far the stream is, and how
// many replicas follow it. While it gets no answer, or too few follow, nothing
// can be published; and when that lasts longer than it takes to elect a leader,
// the node suspends its broker: no stream is taken until it has caught up, and
// those that are open are ended over some seconds, to come back elsewhere. If the
// leader is back before the last of them has ended, the rest goes on.
//
// # A disk that fails
//
// JetStream appends nothing more to a stream once a write has failed, and doesn't
// answer who appends. The node finds that in the server's log, or that JetStream
// has stopped. Where only this node has the log, nothing is published meanwhile,
// here or elsewhere: it doesn't serve, and streams lose nothing by staying. A node
// alone tries the disk until it takes writes; then it restarts JetStream in the
// running server, and checks that the log has what was read of it.
package cluster
