// Package node defines the status of a cluster's node, which is shared by packages
// that don't import each other.
package node

// Status is the status of a node.
type Status struct {
	// Serving reports whether the node accepts streams and publishes. Reason is
	// the reason if it doesn't.
	Serving bool
	Reason  string
	// Leader and Replica report whether the node leads the event log, and
	// whether it holds a sound replica of it.
	Leader, Replica bool
	// Broken describes what is wrong with the replica. It is empty if the
	// replica is sound, and on a node that has none.
	Broken string
	// Quorum reports whether the event log's leader has replied lately, and has
	// a quorum of followers.
	Quorum bool
	// Applied is the last entry of the event log that the node has applied, and
	// Lag is the number of entries that it has yet to apply.
	Applied, Lag uint64
	// GapFills is the number of times that the node had to request entries that
	// it didn't receive live.
	GapFills int64
	// Members are the sorted names of the cluster's members, running or not. It
	// is empty where the cluster has no membership.
	Members []string
}
