package cluster

import (
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Config configures a [Node].
type Config struct {
	// Name is the name of the cluster and of its stream. It is also the prefix of its
	// subjects.
	Name string
	// Replicas is the number of nodes that store the event log, from 1 to 5. If 0, the
	// number is 3 in a cluster of at least 3 nodes, and 1 otherwise.
	Replicas int
	// MaxAge and MaxBytes limit the age of the event log's entries and their total
	// size. 0 means no limit.
	MaxAge   time.Duration
	MaxBytes int64
	// Embedded configures a NATS server in this process. If nil, External must be set.
	Embedded *Embedded
	// External configures the connection to external NATS servers.
	External *External
	// Logger receives log messages for the operator. If nil, nothing is logged.
	Logger *slog.Logger
}

// Embedded configures a NATS server in this process.
type Embedded struct {
	// Dir is the directory that holds the event log and the node's name.
	Dir string
	// Addr is the address that other nodes connect to, as HOST:PORT.
	Addr string
	// Advertise is the address that nodes announce for this one, as HOST:PORT. If
	// empty, it is the source address of this node's connections with Addr's port.
	Advertise string
	// Peers holds the addresses of other nodes, as HOST:PORT. A name may resolve to
	// several nodes, and this node may be among them. Without peers, the node is
	// standalone and doesn't listen.
	Peers []string
	// Resolver resolves the names of peers. If nil, the system's resolver is used.
	Resolver *net.Resolver
	// Secret authenticates nodes to each other. If empty, any node may join.
	Secret string
	// TLS configures connections between nodes, in both directions. If nil, they aren't
	// encrypted.
	TLS *tls.Config
	// Sync makes each replica sync an append to stable storage before it acknowledges
	// it.
	Sync bool
}

// External configures the connection to external NATS servers.
type External struct {
	// URL is the URL of a server. It may list several URLs, separated by commas.
	URL string
	// CredentialsFile is the path of a .creds file, or empty if there is none.
	CredentialsFile string
	// TLS configures the connection. If nil, the URL determines whether TLS is used.
	TLS *tls.Config
}

const (
	// probeInterval is the time between requests to the event log's leader.
	probeInterval = time.Second
	// probeTimeout limits how long the leader may take to reply.
	probeTimeout = 2 * time.Second
	// replicaSilence is how long a replica may be silent and still count as a follower.
	// Each replica contacts the leader once a second.
	replicaSilence = 5 * time.Second
	// noElectionFor is the time after their last contact with the leader during which
	// replicas can't have elected another one: they first wait for 4 s of silence.
	noElectionFor = 3 * time.Second
	// partitionedAfter is how long a node keeps serving without a leader that has a
	// quorum. A NATS election takes 4 to 9 s and affects all nodes, and must not make
	// all streams in a cluster reconnect at the same time.
	partitionedAfter = 15 * time.Second
	// closeOver is the time over which a partitioned node closes its streams. They
	// aren't closed all at once, because they all reconnect to the other nodes.
	closeOver = 5 * time.Second
	// behindAfter is how long a node or replica may take to reach an entry that the
	// event log already has.
	behindAfter = 15 * time.Second
	// appendTimeout limits how long an append is retried. It is longer than an
	// election.
	appendTimeout = 10 * time.Second
	// attemptTimeout limits how long one attempt to append may take.
	attemptTimeout = 2 * time.Second
	// firstRetryDelay and maxRetryDelay bound the delays between attempts that fail
	// immediately, before jitter. maxRetryDelay is short, since publishers are waiting.
	firstRetryDelay = 50 * time.Millisecond
	maxRetryDelay   = 400 * time.Millisecond

	// eventsPerEntry is the number of positions in an entry of the event log.
	eventsPerEntry = 1 << 10
	// maxBatch and maxBatchBytes limit a batch of more than one message.
	maxBatch      = eventsPerEntry / 2
	maxBatchBytes = 512 << 10
	// maxQueued is the total size, in bytes, of the messages that may wait to be
	// appended. Beyond that, publishers block.
	maxQueued = 32 << 20
	// entryOverhead is an upper bound on the bytes in an entry other than its messages:
	// headers, and a few bytes per message and verdict.
	entryOverhead = 16 << 10
	// maxPayload is the max_payload of embedded servers. A message with 1 MiB of
	// data fits easily.
	maxPayload = 4 << 20
)

// newBackOff returns the delays between attempts that fail immediately.
func newBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = firstRetryDelay, maxRetryDelay
	return b
}
