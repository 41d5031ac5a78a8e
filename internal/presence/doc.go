// Package presence tracks which streams the other nodes of a cluster hold, and
// queries those nodes.
//
// # Announcements
//
// A node announces itself once a second. When streams are opened or closed, it also
// announces the new stream counts of the affected users and topics within 250 ms. Each
// node therefore knows how many streams a user has on the other nodes, so a user's
// stream limit can apply to the whole cluster, and the recipients of a message can be
// estimated. The price is that every node needs memory for each user and topic in the
// cluster.
//
// Announcements are numbered. A node that joins, or that misses an announcement,
// requests the full state of the sender, one page at a time, while announcements
// continue. Counts are absolute. A node sends all of them from one goroutine over one
// connection, and NATS preserves their order. If two counts contradict each other, the
// one that arrives later is therefore right, and pages needn't be consistent with each
// other.
//
// A node that has sent no announcement for 5 s is lost, and its counts are ignored. It
// is listed as lost for 10 min, or until the cluster removes it from its members.
// Members that nothing else is known about are listed as absent.
//
// # Queries
//
// Lists, stats and everything else that must be exact are requested on demand, from all
// nodes at the same time. A query contains the name of a control plane call and its
// request. A reply contains the response from one node, and the querying node merges
// the replies. Nodes that don't reply in time are reported by name.
//
// # Watches
//
// A watch is a call that keeps responding, such as WatchConnections. It runs on every
// other node, including nodes that join later. Each node sends its responses in
// numbered pieces, and sends a piece only once the watching node has acknowledged the
// previous one. A slow watcher therefore delays the call on the other nodes instead of
// filling their queues, and the call ends after 5 s if the watcher is gone. A watch
// that loses a piece starts over on that node.
//
// Alternatives that were considered:
//
//   - A JetStream consumer also provides numbers, acknowledgements and redelivery. But
//     it needs a JetStream stream for data that is worthless once the watch ends. That
//     would cost a quorum write for each stream that is opened, and more permissions on
//     external NATS servers.
//   - The announced counts could be compared over time instead. But they lack the order
//     in which a user's streams are opened and closed, the close reasons, and streams
//     that are open for less than 250 ms.
//   - A window of several unacknowledged pieces would be faster when round trips are
//     long. But it would need buffers of that size for each watch on both sides, and
//     more state. Larger pieces have the same effect.
package presence
