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

// nativeHerd holds streams as bare descriptors, each reader many thousand.
type nativeHerd struct {
	readers []*reader
	done    sync.WaitGroup
	once    sync.Once
}

func newNativeHerd(ctx context.Context, r *run, address *url.URL) (herd, error) {
	to, err := resolve(ctx, address)
	if err != nil {
		return nil, err
	}

	h := &nativeHerd{}
	n := r.cfg.Readers
	if n == 0 {
		// One keeps up with more than two cores of a server, and what it takes
		// the server lacks.
		const coresAReader = 4
		n = max(1, runtime.NumCPU()/coresAReader)
	}

	for range n {
		rd, err := newReader(r.payloads, to, r.sources(to.Addr()), max(1, r.cfg.AtOnce/n))
		if err != nil {
			h.close()
			return nil, err
		}
		h.readers = append(h.readers, rd)
	}

	var requests [][]byte
	for _, header := range r.requests {
		text, err := requestBytes(address, header)
		if err != nil {
			h.close()
			return nil, err
		}
		requests = append(requests, text)
	}

	for i := range r.cfg.streams() {
		user := r.userOf(i)
		h.readers[i%n].add(requests[user], user, i >= r.cfg.Clients)
	}

	for _, rd := range h.readers {
		h.done.Go(rd.loop)
	}

	return h, nil
}

func resolve(ctx context.Context, address *url.URL) (netip.AddrPort, error) {
	port := address.Port()
	if port == "" {
		port = "80"
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

// tallies implements herd.
func (h *nativeHerd) tallies() []*tally {
	all := make([]*tally, len(h.readers))
	for i, rd := range h.readers {
		all[i] = rd.tally
	}
	return all
}

// all implements herd.
func (h *nativeHerd) all() []*stream {
	var all []*stream
	for _, rd := range h.readers {
		for i := range rd.sockets {
			if s := &rd.sockets[i]; !s.slow {
				all = append(all, &s.stream)
			}
		}
	}
	return all
}

// close implements herd.
func (h *nativeHerd) close() {
	h.once.Do(func() {
		for _, rd := range h.readers {
			rd.stop()
		}
		h.done.Wait()
		for _, rd := range h.readers {
			_ = unix.Close(rd.wake)
			_ = unix.Close(rd.poll)
		}
	})
}

// slowEnded implements herd.
func (h *nativeHerd) slowEnded() *int {
	n := 0
	for _, rd := range h.readers {
		n += rd.slowEnded
	}
	return &n
}
