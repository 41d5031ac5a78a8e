package cluster_test

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/peald/peald/internal/broker"
)

// nameServer is a DNS server for one name over UDP.
type nameServer struct {
	conn net.PacketConn
	name string

	mu    sync.Mutex
	addrs []netip.Addr
}

// newNameServer starts a server for a name that has no addresses yet.
func newNameServer(t *testing.T, name string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn, name: name}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve()
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return s
}

// resolver returns a resolver that uses the server.
func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

func (s *nameServer) set(addrs ...netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs = addrs
}

func (s *nameServer) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var question dnsmessage.Message
		if question.Unpack(buf[:n]) != nil || len(question.Questions) != 1 {
			continue
		}
		answer := s.answer(question.ID, question.Questions[0])
		if packed, err := answer.Pack(); err == nil {
			_, _ = s.conn.WriteTo(packed, from)
		}
	}
}

func (s *nameServer) answer(id uint16, q dnsmessage.Question) dnsmessage.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, Response: true, Authoritative: true},
		Questions: []dnsmessage.Question{q},
	}
	if len(s.addrs) == 0 || !strings.EqualFold(q.Name.String(), s.name+".") {
		m.RCode = dnsmessage.RCodeNameError
		return m
	}
	if q.Type == dnsmessage.TypeA {
		for _, addr := range s.addrs {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET},
				Body:   &dnsmessage.AResource{A: addr.As4()},
			})
		}
	}
	return m
}

// TestPeersByName starts three nodes that know each other by one name, as with a
// headless service. The name has no addresses when they start.
func TestPeersByName(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs all of 127.0.0.0/8")
	}
	t.Parallel()
	const name = "peers.peald.test"
	names := newNameServer(t, name)
	cfgs := configs(t, 3)
	_, port, err := net.SplitHostPort(cfgs[0].Embedded.Addr)
	if err != nil {
		t.Fatal(err)
	}
	var members []*member
	var addrs []netip.Addr
	for i, cfg := range cfgs {
		addr := netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + i)})
		addrs = append(addrs, addr)
		cfg.Embedded.Addr = net.JoinHostPort(addr.String(), port)
		cfg.Embedded.Peers, cfg.Embedded.Resolver = []string{net.JoinHostPort(name, port)}, names.resolver()
		members = append(members, start(t, cfg))
	}

	names.set(addrs...)
	serving(t, members...)
	c := members[2].connect(t, broker.Subscription{})
	members[0].publish(t, toAll("one"))
	c.gets(t, "one")
}
