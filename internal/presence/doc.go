// Package presence tracks which streams the other nodes of a cluster hold, and
// queries those nodes.
//
// # Announcements
//
// A node announces itself once a second. When streams are opened or closed, it also
// announces, within 250 ms, the new stream counts of the users and topics
// concerned. So each node knows how many streams a user has on the other nodes: a
// user's stream limit applies to the whole cluster, and the recipients of a message
// can be estimated. The price is memory on every node for each user and topic in
// the cluster.
//
// Announcements are numbered. A node that joins, or that misses an announcement,
// requests the full state of the sender, one page at a time, while announcements
// continue. Counts are absolute, and a node sends everything from one goroutine
// over one connection, whose order NATS preserves. So if two counts contradict each
// other, the one that arrives later is right, and pages needn't be consistent with
// each other.
//
// A node that has sent no announcement for 5 s is lost, and its counts are
// ignored. It is listed as lost for 10 min, or until the cluster removes it from
// its members. Members about which nothing else is known are listed as absent.
//
// # Queries
//
// Lists, stats and everything else that must be exact are requested on demand, from
// all nodes at the same time. A query holds the name of a control plane call and
// its request. A reply holds the response from one node, and the querying node
// merges the replies. Nodes that don't reply in time are reported by name.
//
// # Watches
//
// A watch is a call that keeps responding, such as WatchConnections. It runs on
// every other node, including nodes that join later. Each node sends its
// responses in numbered pieces, and sends the next piece when the watching node has
// acknowledged the previous one. So a slow watcher delays the call on the other
// nodes instead of filling queues, and a watcher that is gone stops being served
// after 5 s. A watch that loses a piece starts over on that node.
//
// Alternatives that were considered:
//
//   - A JetStream consumer also numbers, acknowledges and redelivers. But it needs
//     a stream for data that is worthless once the watch ends, which would cost a
//     quorum write per stream that is opened, and more permissions on external
//     NATS servers.
//   - The announced counts could be compared over time instead. They lack the
//     order of a user's streams, the reasons why streams were closed, and
//     streams that are open for less than 250 ms.
//   - A window of several unacknowledged pieces is faster over long round trips.
//     It needs buffers of that size for each watch on both sides, and more state.
//     Larger pieces have the same effect.
package presence
