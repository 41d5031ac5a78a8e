package cluster_test

import (
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peald/peald/internal/cluster"
)

// links is the network of a cluster. Each node has its own link to each other node,
// so that a link is identified by its two ends. The addresses that nodes advertise
// to each other are unreachable.
type links struct {
	all []*link
}

// unreachable is an address that nothing listens on.
const unreachable = "127.0.0.1:1"

// linkedConfigs returns the configurations of a cluster of n nodes that are
// connected by links.
func linkedConfigs(tb testing.TB, n int) ([]cluster.Config, *links) {
	tb.Helper()
	cfgs, l := configs(tb, n), new(links)
	for from := range cfgs {
		own := cfgs[from].Embedded
		peers := []string{own.Addr}
		for to := range cfgs {
			if to != from {
				peers = append(peers, l.add(tb, from, to, cfgs[to].Embedded.Addr).Addr().String())
			}
		}
		own.Peers, own.Advertise = peers, unreachable
	}
	return cfgs, l
}

func (l *links) add(tb testing.TB, from, to int, addr string) *link {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	added := &link{Listener: listener, from: from, to: to, addr: addr, open: make(chan struct{}), ended: make(chan struct{})}
	close(added.open)
	l.all = append(l.all, added)
	added.running.Go(added.accept)
	tb.Cleanup(added.end)
	return added
}

// partition stops all traffic between nodes and all other nodes. Data in flight and
// new connections are delayed, as in TCP.
func (l *links) partition(nodes ...int) {
	for _, l := range l.all {
		if slices.Contains(nodes, l.from) != slices.Contains(nodes, l.to) {
			l.hold()
		}
	}
}

// heal ends all partitions.
func (l *links) heal() {
	for _, l := range l.all {
		l.release()
	}
}

// slow delays traffic to and from a node, and limits the bandwidth of its links, in
// bytes per second in each direction.
func (l *links) slow(node int, delay time.Duration, bandwidth int64) {
	for _, l := range l.all {
		if l.from == node || l.to == node {
			l.delay.Store(int64(delay))
			l.bandwidth.Store(bandwidth)
		}
	}
}

// link takes the connections that one node makes to another.
type link struct {
	net.Listener

	from, to  int
	addr      string
	delay     atomic.Int64
	bandwidth atomic.Int64 // bytes per second; 0 for no limit
	carried   atomic.Int64 // bytes
	ended     chan struct{}
	running   sync.WaitGroup

	mu    sync.Mutex
	open  chan struct{} // closed while traffic may pass
	conns []net.Conn
}

func (l *link) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.open:
		l.open = make(chan struct{})
	default:
	}
}

func (l *link) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.open:
	default:
		close(l.open)
	}
}

// pass waits until traffic may pass. It reports false if the link was closed.
func (l *link) pass() bool {
	l.mu.Lock()
	open := l.open
	l.mu.Unlock()
	select {
	case <-open:
		return true
	case <-l.ended:
		return false
	}
}

func (l *link) end() {
	close(l.ended)
	_ = l.Close()
	l.mu.Lock()
	for _, conn := range l.conns {
		_ = conn.Close()
	}
	l.mu.Unlock()
	l.running.Wait()
}

func (l *link) accept() {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		l.running.Go(func() { l.carry(conn) })
	}
}

// carry connects a connection to the node that it is intended for.
func (l *link) carry(near net.Conn) {
	if !l.keep(near) || !l.pass() {
		return
	}
	far, err := net.Dial("tcp", l.addr)
	if err != nil || !l.keep(far) {
		_ = near.Close()
		return
	}
	l.running.Go(func() { l.pump(near, far) })
	l.pump(far, near)
}

// keep registers a connection to be closed with the link.
func (l *link) keep(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, conn)
	select {
	case <-l.ended:
		_ = conn.Close()
		return false
	default:
		return true
	}
}

// piece is data in flight.
type piece struct {
	bytes []byte
	read  time.Time
}

// pump copies data from one end to the other.
func (l *link) pump(to, from net.Conn) {
	const size, inFlight = 32 << 10, 256
	pieces := make(chan piece, inFlight)
	l.running.Go(func() {
		defer close(pieces)
		for {
			buf := make([]byte, size)
			n, err := from.Read(buf)
			if n > 0 {
				select {
				case pieces <- piece{buf[:n], time.Now()}:
				case <-l.ended:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	defer func() { _, _ = to.Close(), from.Close() }()
	var free time.Time // when the bandwidth allows more
	for p := range pieces {
		due := p.read.Add(time.Duration(l.delay.Load()))
		if bandwidth := l.bandwidth.Load(); bandwidth > 0 {
			if free.Before(p.read) {
				free = p.read
			}
			free = free.Add(time.Duration(int64(len(p.bytes)) * int64(time.Second) / bandwidth))
			due = due.Add(free.Sub(p.read))
		}
		if wait := time.Until(due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-l.ended:
				return
			}
		}
		if !l.pass() {
			return
		}
		if _, err := to.Write(p.bytes); err != nil {
			return
		}
		l.carried.Add(int64(len(p.bytes)))
	}
}

// TestAdvertisedAddresses starts three nodes that know only the address of one of
// them, which announces the advertised addresses of the others.
func TestAdvertisedAddresses(t *testing.T) {
	t.Parallel()
	cfgs, l := configs(t, 3), new(links)
	var fronts []*link
	for to, cfg := range cfgs {
		front := l.add(t, -1, to, cfg.Embedded.Addr)
		fronts = append(fronts, front)
		cfg.Embedded.Advertise = front.Addr().String()
		cfg.Embedded.Peers = []string{cfgs[0].Embedded.Addr}
	}
	var members []*member
	for _, cfg := range cfgs {
		members = append(members, start(t, cfg))
	}
	serving(t, members...)
	members[1].publish(t, toAll("one"))
	eventually(t, func() bool { return fronts[1].carried.Load()+fronts[2].carried.Load() > 0 }, func() string {
		return "nodes 1 and 2 don't connect by their advertised addresses"
	})
	if n := fronts[0].carried.Load(); n > 0 {
		t.Errorf("%d bytes went to the advertised address of node 0, want 0 since its address was known", n)
	}
}
