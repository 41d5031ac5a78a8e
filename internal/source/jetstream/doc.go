// Package jetstream reads a source from a stream of NATS JetStream.
//
// All nodes of a cluster share one durable pull consumer with explicit acknowledgement. Its
// priority policy is pinned_client, so the server delivers messages to one node, and to
// another one soon after that node has died. The Reader creates the consumer if it doesn't
// exist, and otherwise checks that its settings keep what is promised here.
//
// # Order
//
// Messages must be published in the order of the stream, but the server delivers a message
// that wasn't acknowledged again after the consumer's ack_wait, possibly behind later ones.
// That happens when another node takes over, and when a delivery is lost with a connection
// or during a restart of the server. A bound on the number of unacknowledged messages
// doesn't prevent it.
//
// The Reader therefore tracks the consumer sequence, which the server increments with each
// delivery. As long as deliveries arrive without a gap, every message is either new and
// next in the stream's order, or a redelivery of one that the Reader has. After a gap, and
// at the start, the Reader holds back all messages until it has received as many as the
// consumer counts as unacknowledged ([jetstream.ConsumerInfo], NumAckPending): from then on
// it has all that were ever delivered and aren't settled, and continues in the stream's
// order. This takes up to ack_wait, or a moment if the previous reader stopped orderly,
// because it returns its messages at once. See [sequencer].
//
// The count is misleading in one case: the server has lost acknowledgements, and an earlier
// reader that has been replaced but still runs acknowledges messages after those. Then a
// message may be published after later ones. None is lost.
//
// # Offsets
//
// A stream's sequence starts over if the stream is deleted and created again. The time at
// which the server stored the message, in nanoseconds, is therefore part of
// [source.Record.Offset].
package jetstream
