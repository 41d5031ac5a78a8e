// Package source publishes messages from where backends already write them: a table, a
// topic, a stream. It contains what all kinds of sources have in common. Each kind is a
// package of its own, which implements [Kind] and [Reader].
//
// A [Manager] runs one Reader per configured source. The Reader fetches records and
// passes them to its [Sink], which maps each record to a message ([Mapping]) and
// publishes the messages in order. Only then does the Reader acknowledge the records to
// the source. A record is therefore never lost, but it may be read more than once: after
// a crash, a lost connection, or a change of the active reader. The Sink gives each
// message an idempotency key that it derives from the source, the partition and the
// offset, so the message isn't published again as long as the key is remembered
// (history.idempotency_window).
//
// # Order
//
// The records of one partition are published in the order in which the Reader passes
// them. If a message can't be published for the time being, no later message of the
// same partition is published either ([Publisher]).
//
// That also holds while two Readers pass the same partition, such as one that has lost
// its lock without noticing and its successor. Each of them passes the partition's
// records in order, starting with one that isn't settled, and leaves none out. A message
// counts where it appears first, and the first appearances in any interleaving of two
// such sequences are in order.
//
// # Records that can't be published
//
// A record is rejected if the mapping doesn't apply to it, or if the broker would never
// accept its message. The Sink logs and counts it, and returns it to the Reader, which
// stores it in the source's dead-letter destination, if there is one, before it
// acknowledges the record. A rejected record delays no other record.
package source
