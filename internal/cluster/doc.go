// Package cluster turns several daemons into one: a message that is published on any
// node is delivered by all of them, with the same id and in the same order. Clients can
// therefore resume on any node. The package is built on NATS JetStream, which runs
// inside each daemon or on external servers.
//
// # The event log
//
// A single JetStream stream holds the messages for all audiences. Users and topics are
// data in that stream, never subjects: a subject must not contain spaces or wildcards,
// but applications choose their user ids freely. Moreover, an event's id can be a
// position for every client only if all messages share one order.
//
// A [Node] appends the messages from its publishers, and reads the whole JetStream
// stream, in order, into its [broker.Broker]. The broker fills its own history and
// delivers to its clients' streams. It also handles resuming on its node.
//
// # Appending
//
// A node has at most one append in flight. Messages published in the meantime form the
// next batch, which becomes one message in the stream. Under load, one disk sync and
// one round trip to the other nodes therefore serve hundreds of messages. When there is
// no load, messages don't wait. An event's sequence number is its batch's sequence
// number in the stream, times [eventsPerEntry], plus its index in the batch.
//
// Having one append at a time also preserves the order when something fails. An append
// that isn't acknowledged is retried until it is known to be in the stream or is
// abandoned. Only then does the next one start. The stream recognizes duplicates by
// their Nats-Msg-Id and drops them. Each batch also carries its node's incarnation and
// an increasing number, and readers drop a batch that arrives after a later one. Such a
// batch may have been abandoned while it was still on its way. If there were several
// appends in flight, one that failed would end up behind those that followed it.
//
// # Idempotency keys
//
// Idempotency keys are not used as Nats-Msg-Ids. That would limit them to the stream's
// deduplication window and to whole batches, and a repetition couldn't be distinguished
// from a different message with the same key. Instead, the broker on each node decides
// whether a message is a repetition. All nodes must reach the same decision: an event
// that only some nodes have would be a gap on the others.
//
// But not all nodes know the same keys. When a node starts, it reads them from the
// stream, which drops entries by age and by size. Entries dropped by size may go before
// the window of their keys has passed. Also, the broker forgets keys when there are too
// many. The event log therefore records what is known about a key. The node that
// appends a batch records the last event of the log that it has applied and, for each
// message, whether its key was known by then, and for which event (broker.Verdict).
// Readers trust that verdict for everything up to that event, regardless of what they
// know themselves. For later events, which were in flight, they decide based on what
// they have read. The last event that the appending node had applied is usually only
// milliseconds old, and all nodes that have read the log from there on reach the same
// decision. Only a node that starts reading after that event can differ, and only for
// the first entries that it reads. Those are normally older than the broker's history,
// because the stream is kept longer.
//
// The guarantee therefore has a limit. Nodes that have been running for a key's whole
// window know the key. A node that started later knows keys only as far back as the
// stream reached when it started. The stream may use eight times history.max_bytes, and
// at least 1 GiB.
//
// # Retained values
//
// All nodes must have the same retained values. They are a function of the event log:
// all nodes apply the messages that set and clear values in the same order, and accept
// or reject them based on the same limits, which the publishing node recorded in its
// batch. But values can outlive their entries in the log. A second JetStream stream
// therefore holds a snapshot: the values as of a position in the log. A node that opens
// the log first restores the snapshot, and then applies the entries after that
// position. It does so before it starts serving, so its values are complete by the time
// its first client connects.
//
// The node that leads the log saves a new snapshot a few seconds after a change, long
// before the log drops the entry. If it doesn't, another node does. Saving needs no
// coordination: the head of a snapshot replaces the previous one only if that is still
// the one that the writer has read, and every snapshot is a state of the same log.
//
// The alternative was a key-value bucket with an entry for each value. It would need a
// second write for each message, which could fail on its own. A node that read the
// bucket would find values from various positions, and couldn't reconstruct which
// messages had been accepted. A snapshot costs nothing when a message is published. It
// needs at most twice the values' size on disk, and at most 2 MiB/s of writes.
//
// One gap remains. If all nodes are killed at once, within the few seconds between a
// change and the next snapshot, and stay down until the log's entries have expired, the
// change is lost. A node that is started after that logs a warning that values may be
// missing.
//
// # Reading
//
// The stream republishes each message that it stores, and every node subscribes to
// these copies. When a node starts, or finds a gap in the sequence, it requests the
// missing entries from a replica of the stream. JetStream's own way of reading is a
// consumer. But a consumer would run on one node and end with it. Another node would
// then recreate it, after an election.
//
// # Partitions
//
// Once a second, a node queries the stream's leader for the stream's state and
// followers. Nothing can be published while the leader doesn't reply or has no quorum.
// If that lasts longer than an election, the node suspends its broker. Clients that
// open a stream are asked to retry until the node has caught up. Open streams are
// closed over several seconds, so that their clients reconnect to other nodes. If the
// leader replies again before all of them are closed, the rest stay open.
//
// A client may have received events from another node that this node hasn't applied yet.
// Its stream waits for them. It gets a reset only if the event log doesn't have them. Only
// the leader can prove that, and not after it may have been deposed without noticing.
// Until then, the client is asked to retry.
//
// # Lost entries
//
// An event log can lose its last entries, be restored from a backup, or be used again
// after the node has used another one. If it continued, it would repeat ids. Each node
// therefore records, outside of JetStream's files, which event log it used last and how
// far it has got. When it opens an event log, it compares the log with that record. If
// the log has lost entries, it gets a new epoch: ids from earlier epochs are unknown, and
// clients that resume from one get a reset.
//
// A record can't be relied on if the node runs on a copy of its directory, or if its
// machine has crashed. A standalone node then assumes the worst. In a cluster, this may
// have happened to all nodes, so the leader assumes the worst, and the others wait for
// it.
//
// # Disk failures
//
// Once a write has failed, JetStream stops appending to the stream and no longer
// replies to publishers. The node detects this from the server's log, or by checking
// whether JetStream is still running. If only this node has the event log, nothing can
// be published on any node until it recovers. In the meantime, the node isn't ready,
// but it keeps its clients' streams open, since they miss nothing. A standalone node
// retries until the disk accepts writes. It then restarts JetStream in the running
// server, and checks that the event log still has everything that was read from it.
package cluster
