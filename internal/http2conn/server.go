package http2conn

import (
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/http2"
)

// Config configures a [Server]. Zero values select the defaults.
type Config struct {
	// MaxStreams limits the open requests of a connection. Requests beyond that are
	// refused, and may be retried. The default is 250.
	MaxStreams int

	// MaxHeaderBytes limits a request's header. As in net/http, another 320 bytes
	// are allowed. Larger ones are answered with status 431. The default is 32 KiB.
	MaxHeaderBytes int

	// RequestBurst and RequestsPerSecond limit the requests of a connection. After half
	// of the burst, the client is asked to open a new connection. The defaults are
	// twice MaxStreams and 50, respectively.
	RequestBurst      int
	RequestsPerSecond int

	// Now returns the time. The default is [time.Now].
	Now func() time.Time
}

// Handler receives what happens on one connection. Its methods are called by
// [Conn.Receive] and [Conn.Close], and may call any method of the connection and
// its streams except Receive.
type Handler interface {
	// Request starts a request. r is as net/http's server would pass it, except that
	// RemoteAddr, TLS and the context are unset, and that Body is nil, or
	// [http.NoBody] if the request has none. Trailers are checked and discarded.
	Request(st *Stream, r *http.Request)

	// Data passes a part of the request's body, which is valid during the call. The
	// caller must return the bytes with [Stream.Consumed] once they have been read. The
	// last call has end set.
	Data(st *Stream, p []byte, end bool)

	// Writable is called when the flow-control window has reopened after a Send that
	// didn't fit into it. Receive and [Conn.Wake] call it. The stream must soon call
	// Send or end, as its part of the window is withheld from other streams until then.
	Writable(st *Stream)

	// Closed is called when a stream ends without End, Reset or a response without
	// a body: the client reset it or violated the protocol (err is a
	// [http2.StreamError]), or the connection ended (err is an [*Error], or the
	// error passed to [Conn.Close]). From then on, the stream's methods have no
	// effect.
	Closed(st *Stream, err error)
}

// Server holds what connections have in common. It is safe for concurrent use.
type Server struct {
	cfg      Config
	settings []byte // the server's connection preface
	start    time.Time

	interval time.Duration // between requests at the sustained rate
	burst    time.Duration // RequestBurst in these intervals
}

// Sizes that the server doesn't negotiate.
const (
	headerLen     = 9       // of a frame (RFC 9113 §4.1)
	maxFrameSize  = 1 << 14 // of frames in both directions; every peer accepts it
	defaultWindow = 1<<16 - 1
	maxWindow     = 1<<31 - 1
	maxStreamID   = 1<<31 - 1

	defaultTableSize = 4096 // of HPACK (RFC 9113 §6.5.2)

	// net/http adds the same to MaxHeaderBytes: the overhead of ten fields as in
	// RFC 9113 §6.5.2.
	headerSlack = 10 * 32
)

// NewServer returns a server with the given configuration.
func NewServer(cfg Config) *Server {
	setDefault(&cfg.MaxStreams, 250)
	setDefault(&cfg.MaxHeaderBytes, 32<<10)
	setDefault(&cfg.RequestBurst, 2*cfg.MaxStreams)
	setDefault(&cfg.RequestsPerSecond, 50)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}

	s := &Server{cfg: cfg, start: cfg.Now(), interval: time.Second / time.Duration(cfg.RequestsPerSecond)}
	s.burst = s.interval * time.Duration(cfg.RequestBurst)

	settings := appendFrameHeader(nil, 2*settingLen, http2.FrameSettings, 0, 0)
	settings = appendSetting(settings, http2.SettingMaxConcurrentStreams, uint32(cfg.MaxStreams))
	settings = appendSetting(settings, http2.SettingMaxHeaderListSize, s.maxHeaderList())
	s.settings = slices.Clip(settings) // connections must not append to it

	return s
}

func setDefault(v *int, value int) {
	if *v <= 0 {
		*v = value
	}
}

// maxHeaderList returns the limit for the size of a request's fields, as RFC 9113
// §6.5.2 counts it.
func (s *Server) maxHeaderList() uint32 { return uint32(s.cfg.MaxHeaderBytes + headerSlack) }

// maxFieldBlock returns the limit for the encoded bytes of a field block. A block
// up to this size can be answered with a status.
func (s *Server) maxFieldBlock() int { return 2 * int(s.maxHeaderList()) }

// elapsed returns the time since the server was created.
func (s *Server) elapsed() time.Duration { return s.cfg.Now().Sub(s.start) }

// date returns the current time for the date field.
func (s *Server) date() string { return s.cfg.Now().UTC().Format(http.TimeFormat) }
