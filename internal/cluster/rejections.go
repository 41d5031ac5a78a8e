package cluster

import (
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// repeatAfter is how long a kind of rejection must have been absent before it is
	// logged again. Connections are retried once a second.
	repeatAfter = time.Minute
	// recentFor is how long a rejection is reported as the reason why a node isn't
	// connected.
	recentFor = 10 * time.Second
)

// rejections tracks rejected connections between nodes, or permissions that NATS
// servers have denied. Its methods are safe for concurrent use.
type rejections struct {
	mu   sync.Mutex
	seen map[string]time.Time // by kind

	latest   string // for the operator
	latestAt time.Time

	closed []time.Time // connections that other nodes closed within recentFor
}

// current returns the description of the last rejection, or an empty string if there
// was none recently.
func (r *rejections) current(now time.Time) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.latest == "" || now.Sub(r.latestAt) > recentFor {
		return ""
	}
	return r.latest
}

// note records the description of a rejection.
func (r *rejections) note(description string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest, r.latestAt = description, now
}

// isNew reports whether a rejection is the first of its kind for repeatAfter.
func (r *rejections) isNew(kind string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, known := r.seen[kind]
	if r.seen == nil {
		r.seen = make(map[string]time.Time)
	}
	for other, at := range r.seen {
		if now.Sub(at) > repeatAfter {
			delete(r.seen, other)
		}
	}
	r.seen[kind] = now
	return !known || now.Sub(last) > repeatAfter
}

// closedOften is the number of connections within recentFor that other nodes must close
// to count as a rejection. A node that shuts down closes one or two.
const closedOften = 4

// noteClosed records that another node closed a connection. It reports whether that has
// happened often enough for a rejection.
func (r *rejections) noteClosed(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = slices.DeleteFunc(append(r.closed, now), func(at time.Time) bool { return now.Sub(at) > recentFor })
	return len(r.closed) >= closedOften
}

// parseClosed parses a log line from the server about a connection between nodes that
// failed after it had been opened. It returns the other node's address.
func parseClosed(line string) (addr string, ok bool) {
	addr, text, found := strings.Cut(line, " - rid:")
	return addr, found && strings.Contains(text, "Router connection closed: Read Error")
}

// rejectedCertificate is the likely cause if other nodes keep closing connections over
// TLS. In TLS 1.3, the other node rejects a certificate when this node's side of the
// handshake has already succeeded.
const rejectedCertificate = "rejected by another node: its cluster.tls probably doesn't accept this node's certificate"

// sameName is the likely cause if a connecting node has this node's name.
const sameName = "another node has this node's name: one of them runs on a copy of the other's cluster.dir"

// parseRejection parses a log line from the server about a rejected connection between
// nodes. It returns the other node's address and the likely cause. The address has no
// port if the other node opened the connection, since the port is random in that case.
func parseRejection(line string) (addr, cause string, ok bool) {
	addr, text, found := strings.Cut(line, " - rid:")
	if !found {
		return "", "", false
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", "", false
	}
	switch {
	case strings.Contains(text, "duplicate name"):
		return host, sameName, true
	case strings.Contains(text, "Authorization Violation"):
		return addr, "rejected by another node: its cluster.secret probably differs, or only one of the two nodes has one", true
	case strings.HasSuffix(text, "authentication error"): // without a user, so it wasn't a node's greeting
		return host, "rejected another node: it probably uses cluster.tls, and this node doesn't", true
	case strings.Contains(text, "authentication error"):
		return host, "rejected another node: its cluster.secret probably differs, or only one of the two nodes has one", true
	case strings.Contains(text, "cluster name"):
		return host, "rejected another node: its cluster.name differs", true
	case strings.Contains(text, "handshake error"):
		return host, "TLS handshake with another node failed: its cluster.tls probably differs", true
	}
	return "", "", false
}
