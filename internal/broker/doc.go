// Package broker accepts messages, assigns each a position in a single order,
// and queues it for the streams of its audience. It has no knowledge of HTTP,
// gRPC or files.
//
// # Order
//
// One lock, [Broker].mu, defines the order of events in the daemon. The holder of the
// lock assigns a message its sequence number, counts its recipients and posts it to the
// shards that have any. Streams are counted under the same lock when they join and
// leave. Therefore a stream gets exactly the events that follow its join, and the
// recipients on a receipt are exactly the streams that the event was queued for. No
// blocking operation is performed while the lock is held.
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
// # History
//
// Streams resume from a history of recent events, whose number, memory and age are
// limited. When it is full, the audience with the largest share gives up its oldest
// event: the one with the most events if there are too many events, or with the
// most bytes if they take up too much memory. So a busy topic evicts its own
// events, as long as it holds more than any other audience. Routers share their
// buffers among flows in this way: longest queue drop (B. Suter et al., "Design
// Considerations for Supporting TCP with Per-flow Queueing", 1998) and buffer
// stealing (P. McKenney, "Stochastic Fairness Queuing", 1990). See ranking for how
// the audience is found in constant time.
//
// A stream must get a reset if an event that follows its position, and that it may see,
// has been evicted. Otherwise, it needn't get one. So the history has a mark for each
// audience: the sequence number of the last event evicted from it. A resume compares
// its position with the marks of its audiences. A stream with patterns scans the events
// after its position, and finds the marks among them, so it may get its reset later
// than one that names its topics, after some events. If few events match, it stops
// scanning, and reads the lanes of the audiences that match its patterns instead,
// unless there are too many lanes to compare.
//
// A stream that starts in the past, but not after a specific event, gets what is left.
// It needs a reset only if it starts at a given time and an event published since then
// has been evicted, which the marks show too. Later evictions count as they do for any
// other stream. To tell them apart, evictions are numbered, and a stream knows the last
// one before its start.
//
// Marks of audiences without events use memory as well. They are limited to 1/16 of
// the history's memory. Beyond that, the mark of the audience that has been without
// events for the longest time is forgotten, and from then on no stream resumes from
// before that mark. So a stream with an old position may get an unnecessary reset,
// but no stream ever misses an event without getting one.
//
// The replicas of an event log don't have to agree on what they have evicted. Each
// starts with a different part of the log, and counts the compressed copies of the
// events that its own streams needed. A client's position is only a sequence number,
// valid on all of them. The replica on which the client resumes compares it with its
// own marks, and sends either everything from its own history or a reset.
//
// # Retained values
//
// A message may be retained: it stays the latest value for its audience and conflate
// key until another message replaces it, it expires or it is cleared. A stream that
// starts without a position, or with a reset, gets the values of its audiences before
// its position mark. It reads them like a replay: a few each time it holds the lock,
// when its queue is empty. The order of values is that of their sequence numbers, so a
// stream remembers only how far it has read, and values that are replaced in the
// meantime aren't missed: the replacement follows the stream's position. A stream that
// starts in the past also gets values after its position, in their place among the
// events, if the history no longer has them.
//
// A client that loses its connection partway through the values resumes after the last
// one it received. The others have greater sequence numbers, so they are either in the
// history or lead to a reset, and the client gets all values again.
//
// # Several topics
//
// A message for several topics is one event for each of them, with its own place in the
// topic's lane, its own retained value and its own policy: siblings. They share a
// sequence number and their encoded bytes. A stream that wants several of them gets the
// first in the order of the message's topics, or the first that the history still holds.
// In the order of events they are one: whatever reads a part of the history takes all of
// them or none, and keeps one for its stream. So a position never lies between them.
//
// Each topic gives up its event on its own, so a topic that keeps little, or a busy one,
// doesn't take anything away from the others. A stream gets a reset if one of its topics
// has given up an event, even if it could still get that event from another one. Each
// sibling counts as an event of the history; their bytes count once, for the first that
// is left.
//
// # Topics that end
//
// A topic has ended if its last event was final. Its lane in the history records that,
// and so does the lane's mark once the event has left. So the end is remembered for as
// long as marks are, and a replica that rereads the log learns of it too.
//
// # Ownership of bytes
//
// An event is encoded once. If any stream's body uses the gzip content coding, the
// event is also compressed once. If any stream asks for envelopes, the event is also
// encoded once in an envelope, as an event of its own that queues hold in its place. The
// bytes never change afterwards, and all queues and sinks that hold the event share
// them.
package broker
