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

// links are the ways by which the nodes of a cluster reach each other. Each node
// has a link of its own to each other one, so that a link is known by its two
// ends; and what nodes tell each other of their addresses leads nowhere.
type links struct {
	all []*link
}

// nowhere is an address that nobody listens at.
const nowhere = "127.0.0.1:1"

// linkedConfigs are those of a cluster of n nodes, which reach each other by
// links.
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
		own.Peers, own.Advertise = peers, nowhere
	}
	return cfgs, l
}

func (l *links) add(tb testing.TB, from, to int, addr string) *link {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	way := &link{Listener: listener, from: from, to: to, addr: addr, open: make(chan struct{}), ended: make(chan struct{})}
	close(way.open)
	l.all = append(l.all, way)
	way.running.Go(way.accept)
	tb.Cleanup(way.end)
	return way
}

// part has nothing go between some nodes and all others, from now on. What is on
// its way waits, as it does in TCP, and so do new connections.
func (l *links) part(nodes ...int) {
	for _, way := range l.all {
		if slices.Contains(nodes, way.from) != slices.Contains(nodes, way.to) {
			way.hold()
		}
	}
}

// heal ends all partings.
func (l *links) heal() {
	for _, way := range l.all {
		way.release()
	}
}

// slow has what goes to and from a node take longer, and share a bandwidth of
// some bytes a second each way with all else on its link.
func (l *links) slow(node int, delay time.Duration, bandwidth int64) {
	for _, way := range l.all {
		if way.from == node || way.to == node {
			way.delay.Store(int64(delay))
			way.bandwidth.Store(bandwidth)
		}
	}
}

// link takes the connections that one node makes to another.
type link struct {
	net.Listener

	from, to  int
	addr      string
	delay     atomic.Int64
	bandwidth atomic.Int64 // bytes a second; 0 for no bound
	carried   atomic.Int64 // bytes
	ended     chan struct{}
	running   sync.WaitGroup

	mu    sync.Mutex
	open  chan struct{} // closed while something may pass
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

// pass waits until something may pass, and says whether it ever will.
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

// carry joins a connection to the node that it is for.
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

// keep notes a connection, to be closed at the end.
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

// piece is bytes on their way.
type piece struct {
	bytes []byte
	read  time.Time
}

// pump carries what comes from one end to the other.
func (l *link) pump(to, from net.Conn) {
	const atOnce, underway = 32 << 10, 256
	pieces := make(chan piece, underway)
	l.running.Go(func() {
		defer close(pieces)
		for {
			buf := make([]byte, atOnce)
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
	var free time.Time // when the bandwidth has room for more
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

// TestANodeIsReachedAtWhatItAdvertises has nodes know one of three beforehand,
// and hear from it where the others are.
func TestANodeIsReachedAtWhatItAdvertises(t *testing.T) {
	t.Parallel()
	cfgs, l := configs(t, 3), new(links)
	var front []*link
	for to, cfg := range cfgs {
		way := l.add(t, -1, to, cfg.Embedded.Addr)
		front = append(front, way)
		cfg.Embedded.Advertise = way.Addr().String()
		cfg.Embedded.Peers = []string{cfgs[0].Embedded.Addr}
	}
	var members []*member
	for _, cfg := range cfgs {
		members = append(members, start(t, cfg))
	}
	serving(t, members...)
	members[1].publish(t, toAll("one"))
	eventually(t, func() bool { return front[1].carried.Load()+front[2].carried.Load() > 0 }, func() string {
		return "nodes 1 and 2 don't reach each other by what node 0 has told them"
	})
	if n := front[0].carried.Load(); n > 0 {
		t.Errorf("%d bytes went to node 0 by what it advertises, though its address was known", n)
	}
}
