// Package redis reads messages from streams in Redis. Each stream is a partition.
//
// Entries are read through a consumer group, and acknowledged (XACK) once their messages
// are published. Several nodes may be configured with the same group. One of them at a
// time reads a stream: the one that holds the stream's lock, a key that expires unless
// its holder renews it.
//
// # Order
//
// A lock that expires doesn't stop its holder, which may be suspended for a while without
// noticing, and then continue. Two rules keep the stream's order nevertheless:
//
//   - Only the holder of the lock advances the consumer group. A script checks the lock
//     and reads the next entries in one step, so an earlier holder gets no more entries
//     once its lock has expired.
//   - A new holder first claims all entries that were read but not acknowledged
//     (XAUTOCLAIM), and publishes them in order, before it reads further ones.
//
// What an earlier holder still publishes are entries that the new holder publishes too,
// in the same order. The idempotency keys let each message count where it appears first
// ([github.com/peald/peald/internal/source]), so clients get each message once and in
// order, as long as the keys are remembered.
//
// For the same reason, a reader never repeats a read whose reply is lost, but starts from
// the beginning, as a new holder does: the entries in the lost reply were read, but not
// acknowledged.
//
// # Offsets
//
// An entry's offset consists of its id and a hash of its fields. Ids that Redis generates
// aren't reused. If a producer chooses ids itself, it may reuse them after a stream has
// been deleted; the hash keeps such an entry from being taken for the earlier one.
package redis
