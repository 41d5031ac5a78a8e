// Package cluster turns several daemons into one: a message that is published on
// any node is delivered by all, with the same id and in the same order, so that
// clients may resume on any node. It is built on NATS JetStream, which runs
// inside each daemon or on external servers.
//
// # The event log
//
// One JetStream stream holds the messages for all audiences. Users and topics
// are data in it, never subjects: a subject must not contain spaces or
// wildcards, while applications choose their user ids freely. And an event's id can
// only be a position for every stream if all messages share one order.
//
// A [Node] appends the messages from its publishers, and reads the whole stream in
// order into its [broker.Broker]. The broker fills its own history and delivers to
// its streams, so on every node the broker also handles resuming.
//
// # Appending
//
// A node has one append in flight. Messages published in the meantime form the
// next batch, which is one message in the stream: under load, one disk sync and one
// round trip to the other nodes serve hundreds of messages, and without load a
// message doesn't wait. An event's sequence number is its batch's sequence number
// in the stream, times [eventsPerEntry], plus its index in the batch.
//
// One append at a time also preserves the order when something fails. An append
// without an acknowledgment is retried until it is known to be in the stream, or
// given up, and only then does the next one start. The stream recognizes
// repetitions by their Nats-Msg-Id and drops them. Each batch also carries its
// node's incarnation and an increasing number, and readers drop a batch that
// arrives after a later one, such as one that was given up while still on its way.
// With several appends in flight, one that fails would end up behind those that
// followed it.
//
// # Idempotency keys
//
// Idempotency keys are not used as the stream's Nats-Msg-Id: that would limit
// them to the stream's deduplication window and to whole batches, and couldn't
// distinguish a repetition from another message with the same key. Each node decides
// for itself, in the broker, and all nodes must reach the same decision: an event
// that only some nodes have would be a gap on the others.
//
// But not all nodes know the same keys. A node that starts reads them from the
// stream, which drops entries by age and by size, in the latter case possibly before
// the window of their keys has passed. And broker.Broker forgets keys when there are
// too many. So the event log also records what is known about a key. The node that
// appends a batch records the last event of the log that it has applied, and for
// each message whether its key was known by then, and for which event
// (broker.Verdict). Readers trust that verdict for everything up to that event,
// regardless of what they know themselves. They decide about later events, which
// were in flight, based on what they have read. All nodes that have read the log
// back to that event, which is usually only milliseconds old, reach the same
// decision. Only a node that starts reading after that event can differ, and only
// for the first entries that it reads. Those are normally older than the broker's
// history, because the stream is kept longer.
//
// So the guarantee has a limit: a key is known for its whole window by nodes that
// were running all that time. A node that started later knows keys only as far back
// as the stream went. The stream may use eight times history.max_bytes, and at
// least 1 GiB.
//
// # Retained values
//
// All nodes must have the same retained values. They are a function of the event log:
// nodes apply the messages that set and clear values in the same order, and accept or
// reject them with the same limits, those that the publishing node recorded in its batch.
// But values outlive the log. So a second stream holds a snapshot of them: the values as
// of a position in the log. A node that opens the log first restores the snapshot, and
// then applies the entries after that position. As it does so before it serves, its
// values are complete from the first stream on.
//
// The node that leads the log saves a new snapshot a few seconds after a change, long
// before the log drops the entry; another node does so if it doesn't. Writing a snapshot
// needs no coordination: the head of a snapshot replaces another only if that is still
// the one that the writer has read, and every snapshot is the state of the same log.
//
// A key-value bucket with an entry for each value was the alternative. It would need a
// second write for each message, which could fail alone, and a node that reads the bucket
// would find values from various positions: it couldn't reconstruct which messages were
// accepted back then. A snapshot costs nothing when publishing, at most twice the values' size on
// disk, and at most 2 MiB/s of writing.
//
// One gap remains. If all nodes are killed at once within the few seconds before a
// snapshot, and stay down until the log's entries have expired, these changes are lost.
// The node logs that values may be missing.
//
// # Reading
//
// The stream republishes each message that it stores, and every node subscribes to
// these copies. When a node starts, or finds a gap in the sequence, it requests the
// missing entries from a replica of the stream. A consumer, JetStream's own way to
// read, would run on one node and end with that node. Another node, which must be
// elected first, would then recreate it.
//
// # Partitions
//
// Once a second a node asks the stream's leader for the stream's state and
// followers. Nothing can be published while the leader doesn't reply, or has no
// quorum. If that lasts longer than an election, the node suspends its broker: new
// streams are asked to retry until the node has caught up, and open ones are closed
// over several seconds, so that they reconnect to other nodes. If the leader returns
// before the last of them is closed, the rest stay open.
//
// # Disk failures
//
// JetStream stops appending to a stream once a write has failed, and no
// longer replies to publishers. The node detects this from the server's log, or by
// noticing that JetStream has stopped. If only this node has the event log, nothing
// can be published on any node until it recovers. In the meantime the node isn't
// ready, but keeps its streams open, since they miss nothing. A standalone node
// retries until the disk accepts writes. It then restarts JetStream in the running
// server, and checks that the event log still has everything that was read from it.
package cluster
