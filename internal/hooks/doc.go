// Package hooks sends webhooks: HTTP requests that report which users are online and
// which topics have subscribers. docs/webhooks.md specifies the requests.
//
// # From streams to requests
//
// A [Source] reports the users and topics whose streams have changed. Each hook has a
// tracker, which turns these into arrivals and departures: an arrival is immediate, and
// a departure counts only once it has lasted for the hook's delay. An outbox orders
// them and puts them into batches, and a goroutine per hook sends one batch at a time,
// as often as needed until the receiver accepts it. So the events of a user or topic
// arrive in order, and each of them at least once.
//
// # Snapshots
//
// Events alone would require that none is ever lost. Instead, a sender begins with a
// snapshot: the names of all users and topics that are present, in pages. A receiver
// replaces its picture with it. A snapshot is also sent if too many events have been
// waiting, so memory is bounded, and if the receiver asks for one.
//
// Each request has the id of the snapshot that it builds on, and the number of requests
// since that snapshot. Numbers have no gaps. So a receiver can identify repeated
// requests, and late requests from another sender. It answers them and everything else
// that doesn't fit with 409, and gets a snapshot.
//
// # Clusters
//
// All nodes track all users and topics, but only one node sends; see [Cluster]. When
// that node is lost, the next one starts with a snapshot. Because it has been tracking
// all along, users of the lost node who reconnect within the delay stay online.
//
// A node becomes ready to send only when it has been serving for the hook's delay.
// Browsers that reconnect after a restart are therefore part of the first snapshot.
//
// Alternatives that were considered:
//
//   - A queue of events in JetStream, shared by all nodes, would need no snapshot when
//     the sender changes. But it would cost a quorum write for each stream that is
//     opened or closed, and without a cluster there is no such queue. A receiver that
//     has lost its state would need snapshots all the same.
//   - Sending only the difference between two states would need no queue. But a
//     receiver that is down for a while would never get to know who had been online.
package hooks
