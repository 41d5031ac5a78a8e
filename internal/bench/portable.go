package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// portableHerd holds a goroutine and a connection of net/http for each stream.
type portableHerd struct {
	tally   *tally
	streams []stream
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

func newPortableHerd(ctx context.Context, r *run, address *url.URL) *portableHerd {
	ctx, cancel := context.WithCancel(ctx)
	h := &portableHerd{tally: newTally(r.payloads), streams: make([]stream, r.cfg.Clients), cancel: cancel}

	client := &http.Client{
		Transport:     r.transport(ctx, address),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}

	opening := make(chan struct{}, r.cfg.AtOnce)
	for n := range r.cfg.streams() {
		s := &stream{} // a slow one, which nobody asks for what it has seen
		if n < len(h.streams) {
			s = &h.streams[n]
		}

		s.user = r.userOf(n)
		request := (&http.Request{Method: http.MethodGet, URL: address, Header: r.requests[s.user].Clone()}).WithContext(ctx)

		h.done.Go(func() {
			err := h.follow(ctx, client, request, s, opening, n >= len(h.streams))
			if err != nil && ctx.Err() == nil {
				h.tally.end(s, cause(err))
			}
		})
	}

	return h
}

// transport makes a connection for each stream.
func (r *run) transport(ctx context.Context, address *url.URL) *http.Transport {
	var dialers []*net.Dialer
	if ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", address.Hostname()); err == nil {
		for _, from := range r.sources(ips[0].Unmap()) {
			dialers = append(dialers, &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))})
		}
	}

	if dialers == nil {
		dialers = []*net.Dialer{{}}
	}

	var dials atomic.Int64
	one := new(http.Protocols)
	one.SetHTTP1(true)

	return &http.Transport{
		TLSClientConfig: r.cfg.TLS,
		Protocols:       one, // a browser on each connection is what is measured
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialers[int(dials.Add(1))%len(dialers)].DialContext(ctx, network, addr)
		},
		DisableCompression: true,
		DisableKeepAlives:  true,
		ReadBufferSize:     4 << 10,
		WriteBufferSize:    1 << 10,
	}
}

// follow opens the stream and reads it to its end.
func (h *portableHerd) follow(ctx context.Context, client *http.Client, request *http.Request, s *stream, opening chan struct{}, slow bool) error {
	select {
	case opening <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}

	began := time.Now()
	response, err := client.Do(request)
	<-opening

	if err != nil {
		return err
	}
	defer response.Body.Close()

	if response.StatusCode != http.StatusOK {
		const most = 1 << 10
		body, _ := io.ReadAll(io.LimitReader(response.Body, most))
		return checkAnswer(response.StatusCode, response.Status, response.Header, body)
	}

	if err := checkAnswer(response.StatusCode, response.Status, response.Header, nil); err != nil {
		return err
	}

	h.tally.open(time.Since(began))
	if slow {
		<-ctx.Done()
		return nil
	}

	buf := make([]byte, 4<<10)
	for {
		n, err := response.Body.Read(buf)
		h.tally.take(s, buf[:n])
		if err != nil {
			return err
		}
	}
}

// tallies implements herd.
func (h *portableHerd) tallies() []*tally { return []*tally{h.tally} }

// all implements herd.
func (h *portableHerd) all() []*stream {
	all := make([]*stream, len(h.streams))
	for i := range all {
		all[i] = &h.streams[i]
	}
	return all
}

// slowEnded implements herd. Who doesn't read can't tell here.
func (h *portableHerd) slowEnded() *int { return nil }

// close implements herd.
func (h *portableHerd) close() {
	h.cancel()
	h.done.Wait()
}

// ended is why a stream ended whose end was no error.
const ended = "the server ended the stream"

// cause is why a stream ended, without what is different for each.
func cause(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errEnd) {
		return ended
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		if errno == syscall.EADDRNOTAVAIL {
			return "no port is left to connect from; let the streams come from more addresses"
		}
		return errno.Error()
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	return fmt.Sprint(err)
}
