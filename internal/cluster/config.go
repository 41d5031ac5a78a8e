package cluster

import (
	"crypto/tls"
	"log/slog"
	"net"
	"time"
)

// Config is how a node is set up.
type Config struct {
	// Name is the cluster's: that of the stream, and of subjects.
	Name string
	// Replicas is how many nodes hold the stream, 1 to 5; 0 is 3 where there
	// are that many nodes, else 1.
	Replicas int
	// MaxAge and MaxBytes bound the stream; 0 is no bound.
	MaxAge   time.Duration
	MaxBytes int64
	// Embedded runs a NATS server in this process. Where it is nil, External
	// is used.
	Embedded *Embedded
	// External are servers of somebody else's.
	External *External
	// Logger gets what an operator should know; nothing where nil.
	Logger *slog.Logger
}

// Embedded is a NATS server inside the daemon.
type Embedded struct {
	// Dir is where the stream and the node's name are kept.
	Dir string
	// Addr is where other nodes connect to, HOST:PORT.
	Addr string
	// Advertise is what nodes tell each other of this one, HOST:PORT; empty for
	// the address that its connections come from, and Addr's port.
	Advertise string
	// Peers are addresses of other nodes, HOST:PORT, where a name may stand
	// for many; this node's own may be among them. Without any the node is
	// alone and listens to nobody.
	Peers []string
	// Resolver resolves names of peers; nil for the system's.
	Resolver *net.Resolver
	// Secret is what nodes know each other by; empty for none.
	Secret string
	// TLS is for connections between nodes, both ways; nil for plain text.
	TLS *tls.Config
	// Sync has each node write the log through to its disk before it is
	// acknowledged.
	Sync bool
}

// External says how to reach NATS servers.
type External struct {
	// URL is one or more of them, parted by commas.
	URL string
	// CredentialsFile is a .creds file; empty for none.
	CredentialsFile string
	// TLS is for the connection; nil for what the URL says.
	TLS *tls.Config
}

const (
	// probeEvery is how often the stream's leader is asked.
	probeEvery = time.Second
	// probeTimeout is how long it may take to answer.
	probeTimeout = 2 * time.Second
	// replicaSilence is after how long a replica doesn't count as one that
	// follows; they are heard of every second.
	replicaSilence = 5 * time.Second
	// loyalFor is how long replicas that were heard of can't have elected
	// another leader since: their elections begin after 4 s of silence.
	loyalFor = 3 * time.Second
	// cutOffAfter is how long a node goes on without a leader that has a
	// quorum. Elections of NATS take 4 to 9 s, and all nodes see them: that
	// must not make all streams of a cluster come back at once.
	cutOffAfter = 15 * time.Second
	// spreadOver is the time over which a node that is cut off ends its
	// streams, since they all come to the others.
	spreadOver = 5 * time.Second
	// behindAfter is how long a node may take to get to where the stream was.
	behindAfter = 15 * time.Second
	// appendFor is how long an append is tried: long enough for an election.
	appendFor = 10 * time.Second
	// attemptFor is how long one attempt of it may take.
	attemptFor = 2 * time.Second
	// retryAfter is the time between attempts that fail at once.
	retryAfter = 100 * time.Millisecond

	// eventsPerEntry is the room for places in a batch.
	eventsPerEntry = 1 << 10
	// maxBatch and maxBatchBytes bound a batch, but for one that holds a
	// single message.
	maxBatch      = eventsPerEntry / 2
	maxBatchBytes = 512 << 10
	// maxQueued are the bytes that may wait to be appended; publishers wait.
	maxQueued = 32 << 20
	// entryOverhead is more than an entry has besides its messages: headers, a
	// few bytes for each message, and for its key's verdict.
	entryOverhead = 16 << 10
	// maxPayload is what embedded servers take: a message of 1 MiB of data,
	// and the rest of it, fits well.
	maxPayload = 4 << 20
)
