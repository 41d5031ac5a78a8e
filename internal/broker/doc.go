// Package broker accepts messages, assigns each a position in a single order,
// and queues it for the streams of its audience. It has no knowledge of HTTP,
// gRPC or files.
//
// # Order
//
// One lock, [Broker].mu, defines the order of events in the daemon. The holder
// of the lock assigns a message its sequence number, counts its recipients and
// posts it to the shards that have any. Streams are counted under the same lock
// when they join and leave. Therefore a stream gets exactly the events that
// follow its join, and the recipients on a receipt are exactly the streams that
// the event was queued for. No blocking operation is done under the lock.
//
// # Shards
//
// Each stream belongs to one shard. A user's streams are assigned by a hash of the
// user id, and anonymous streams are assigned round-robin. One goroutine owns
// everything in the shard (its streams, their queues and timers) and is the only
// one that calls their sinks; other goroutines post items to its mailbox. The
// goroutine first moves the contents of its mailbox to the streams' queues, then
// writes to a few streams, then checks the mailbox again. During a burst, events
// accumulate in the queues while sockets are being written to, and go out in a few
// large writes. A single event goes out immediately.
//
// # Ownership of bytes
//
// An event is encoded once, and once more, compressed, if a stream's body has the
// content coding gzip. Its bytes never change afterwards, and all queues and
// sinks that hold the event share them.
package broker
