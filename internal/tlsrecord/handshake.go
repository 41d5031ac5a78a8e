package tlsrecord

import (
	"context"
	"crypto/fips140"
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Handshaker performs server-side handshakes. Its methods may be called
// concurrently.
type Handshaker struct {
	config  *tls.Config // the caller's
	outer   *tls.Config // used for a connection until its ClientHello has arrived
	permits chan struct{}
	buffers sync.Pool // of *[readAhead]byte
	budget  budget

	observe func(Outcome)

	full, resumed, failed, layers, computed atomic.Int64
}

// Stats holds the statistics of a Handshaker since its creation.
type Stats struct {
	Full      int64         // handshakes with a certificate
	Resumed   int64         // handshakes that resumed a session
	Failed    int64         // handshakes that failed or were canceled
	Layers    int64         // successful handshakes whose connections have a Layer
	Computing time.Duration // time spent on all of them, not counting waits for clients or for other handshakes
}

// Outcome describes one handshake.
type Outcome struct {
	Err       error         // nil if the handshake succeeded
	Resumed   bool          // the handshake resumed a session
	Layer     bool          // the connection has a Layer
	Duration  time.Duration // of the whole handshake
	Computing time.Duration // Duration, not counting waits for the client or for other handshakes
}

// NewHandshaker returns a Handshaker that uses config, a configuration for
// [tls.Server]. config must not be changed afterwards, except with its
// SetSessionTicketKeys method. At most parallel handshakes compute at once; 0 means as
// many as there are processors. observe, if not nil, is called after each handshake.
//
// Session tickets are encrypted with config's keys, unless config or its
// GetConfigForClient specifies otherwise.
func NewHandshaker(config *tls.Config, parallel int, observe func(Outcome)) *Handshaker {
	if parallel < 1 {
		parallel = runtime.GOMAXPROCS(0)
	}

	h := &Handshaker{
		config:  config,
		outer:   config.Clone(),
		permits: make(chan struct{}, parallel),
		observe: observe,
	}
	h.outer.GetConfigForClient = h.configFor
	h.buffers.New = func() any { return new([readAhead]byte) }
	h.budget.left.Store(maxExpanded)

	return h
}

// Stats returns the statistics.
func (h *Handshaker) Stats() Stats {
	return Stats{
		Full:      h.full.Load(),
		Resumed:   h.resumed.Load(),
		Failed:    h.failed.Load(),
		Layers:    h.layers.Load(),
		Computing: time.Duration(h.computed.Load()),
	}
}

// Handshake performs the server's handshake on conn until it succeeds, fails or ctx is
// canceled. The caller must limit the duration with ctx or a deadline on conn, and must
// close conn after an error.
//
// If layer isn't nil, the connection continues with layer on conn. tc is cut off from
// conn, and only its ConnectionState can be used. Otherwise, the connection continues
// on tc. This happens with TLS 1.2, in FIPS 140 mode, and if a layer can't continue
// where crypto/tls stopped.
func (h *Handshaker) Handshake(ctx context.Context, conn net.Conn) (tc *tls.Conn, layer *Layer, err error) {
	begin := time.Now()
	outcome := Outcome{}
	c := &handshakeConn{
		Conn:    conn,
		buffers: &h.buffers,
		permit:  permit{ctx: ctx, permits: h.permits},
	}
	defer c.permit.release() // if a callback panics

	if !c.permit.acquire() {
		err = context.Cause(ctx)
	} else {
		tc = tls.Server(c, h.outer)
		err = tc.HandshakeContext(ctx)
	}

	if err != nil {
		tc = nil
		c.free()
		c.finish(phaseTLS)
	} else {
		state := tc.ConnectionState()
		outcome.Resumed = state.DidResume
		if layer = c.next(state); layer != nil {
			layer.budget = &h.budget
		}
	}

	outcome.Err, outcome.Layer = err, layer != nil
	outcome.Duration, outcome.Computing = time.Since(begin), c.permit.computed
	h.count(outcome)

	return tc, layer, err
}

func (h *Handshaker) count(o Outcome) {
	switch {
	case o.Err != nil:
		h.failed.Add(1)
	case o.Resumed:
		h.resumed.Add(1)
	default:
		h.full.Add(1)
	}

	if o.Layer {
		h.layers.Add(1)
	}
	h.computed.Add(int64(o.Computing))

	if h.observe != nil {
		h.observe(o)
	}
}

// configFor returns the configuration for one connection. Its key log goes to the
// handshakeConn.
func (h *Handshaker) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	conn, ok := hello.Conn.(*handshakeConn)
	if !ok {
		return nil, errors.New("tlsrecord: connection without a handshake")
	}

	config := h.config
	if h.config.GetConfigForClient != nil {
		original := *hello
		original.Conn = conn.Conn

		c, err := h.config.GetConfigForClient(&original)
		if err != nil {
			return nil, err
		}

		if c != nil {
			config = c
		}
	}

	own := config.Clone()
	if config == h.config && config.WrapSession == nil && config.UnwrapSession == nil {
		// A clone would keep using the keys that config had when it was cloned.
		own.WrapSession, own.UnwrapSession = config.EncryptTicket, config.DecryptTicket
	}

	if slices.Contains(hello.SupportedVersions, tls.VersionTLS13) && !fips140.Enabled() {
		conn.capture = true
		own.KeyLogWriter = keyLog{client: &conn.client, server: &conn.server, next: config.KeyLogWriter}
	}

	return own, nil
}
