package bench

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// nativePool holds streams as raw file descriptors, many thousands per reader.
type nativePool struct {
	readers []*reader
	done    sync.WaitGroup
	once    sync.Once
}

func newNativePool(ctx context.Context, r *run, address *url.URL) (pool, error) {
	to, err := resolve(ctx, address)
	if err != nil {
		return nil, err
	}

	client, err := newExchange(r, address)
	if err != nil {
		return nil, err
	}

	p := &nativePool{}
	n := r.cfg.Readers
	if n == 0 {
		// One reader can keep up with more than two of a server's cores, and
		// further readers would take CPU time from the server.
		const coresPerReader = 4
		n = max(1, runtime.NumCPU()/coresPerReader)
	}

	for range n {
		rd, err := newReader(r.payloads, client, to, r.sources(to.Addr()), max(1, r.cfg.AtOnce/n))
		if err != nil {
			p.close()
			return nil, err
		}
		p.readers = append(p.readers, rd)
	}

	for i, streams := range r.connections() {
		users := make([]uint32, len(streams))
		for j, stream := range streams {
			users[j] = r.userOf(stream)
		}
		p.readers[i%n].add(users, streams[0] >= r.cfg.Clients)
	}

	for _, rd := range p.readers {
		p.done.Go(rd.loop)
	}

	return p, nil
}

func resolve(ctx context.Context, address *url.URL) (netip.AddrPort, error) {
	port := address.Port()
	if port == "" {
		port = schemePort(address)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("url: port %q: %w", port, err)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", address.Hostname())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("url: %w", err)
	}
	return netip.AddrPortFrom(ips[0].Unmap(), uint16(number)), nil
}

// tallies implements pool.
func (p *nativePool) tallies() []*tally {
	all := make([]*tally, len(p.readers))
	for i, rd := range p.readers {
		all[i] = rd.tally
	}
	return all
}

// all implements pool.
func (p *nativePool) all() []*stream {
	var all []*stream
	for _, rd := range p.readers {
		for i := range rd.sockets {
			s := &rd.sockets[i]
			for j := range s.streams {
				if !s.slow {
					all = append(all, &s.streams[j].stream)
				}
			}
		}
	}
	return all
}

// close implements pool.
func (p *nativePool) close() {
	p.once.Do(func() {
		for _, rd := range p.readers {
			rd.stop()
		}
		p.done.Wait()
		for _, rd := range p.readers {
			_ = unix.Close(rd.wake)
			_ = unix.Close(rd.poll)
		}
	})
}

// slowClosed implements pool.
func (p *nativePool) slowClosed() *int {
	n := 0
	for _, rd := range p.readers {
		n += rd.slowClosed
	}
	return &n
}
