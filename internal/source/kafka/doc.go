// Package kafka reads a source from Apache Kafka and from brokers with the same protocol.
//
// Each node of a cluster is a member of one consumer group, so Kafka assigns every
// partition to exactly one of them and replaces a node that has died. The Reader polls
// records, passes them to the [source.Sink] partition by partition, and marks what is
// settled. Marked offsets are committed a few times per second.
//
// # Rebalancing
//
// A rebalance waits until the records of the last poll are settled
// ([kgo.BlockRebalanceOnPoll]). Before a partition is given up, its marked offsets are
// committed, so its next reader starts with the first record that isn't settled. If the
// Reader takes longer than Kafka allows, Kafka assigns its partitions to others at once.
// They then pass records that this Reader passes too. Idempotency keys make the second
// appearance harmless, and order is kept for the reason given in package source.
//
// # Offsets
//
// A record's offset isn't unique if its topic is deleted and created again. The record's
// timestamp, which never changes, is therefore part of [source.Record.Offset].
package kafka
