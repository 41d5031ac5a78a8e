// Package broker is the heart of peald: it takes messages, gives each its
// place in one order, and queues it to the streams of its audience. It knows
// no HTTP, no gRPC and no files.
//
// # Order
//
// One lock, [Broker].mu, makes the order of the whole daemon. Whoever holds it
// gives a message its sequence, counts its recipients and posts it to the
// shards that have any; a stream that joins or leaves is counted under the
// same lock. So a stream gets exactly the events that follow its joining, and
// a receipt's recipients are exactly the streams that the event was queued to.
// Nothing that can block happens under the lock.
//
// # Shards
//
// A stream belongs to one shard: a user's streams by a hash of the user's id,
// anonymous ones by turns. One goroutine owns all that belongs to the shard,
// its streams, their queues and timers, and is the only one that calls their
// sinks; the others post to its mailbox. The goroutine first takes all of its
// mailbox into the streams' queues, then writes to a few streams, and looks
// again: so a burst gathers in the queues while sockets are written, and goes
// out in few large writes, while a lone event goes out at once.
//
// # Ownership of bytes
//
// An event is encoded once. Its bytes are never changed from then on and are
// shared by every queue and every sink that still has it.
package broker
