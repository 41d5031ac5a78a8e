package http2conn

import (
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/http2"
)

// Config configures a [Server]. Zero values select the defaults.
type Config struct {
	// MaxStreams limits the open requests on a connection. Requests beyond the limit
	// are refused, and the client may retry them. The default is 250.
	MaxStreams int

	// MaxHeaderBytes limits the size of a request's header. As in net/http, another 320
	// bytes are allowed. A larger header is answered with status 431. The default is 32
	// KiB.
	MaxHeaderBytes int

	// RequestBurst and RequestsPerSecond limit the rate of requests on a connection.
	// Once half of the burst is used up, the client is asked to open a new connection.
	// The defaults are twice MaxStreams and 50, respectively.
	RequestBurst      int
	RequestsPerSecond int

	// Now returns the time. The default is [time.Now].
	Now func() time.Time
}

// Handler handles the events of one connection. Its methods are called by
// [Conn.Receive], [Conn.Wake] and [Conn.Close]. They may call any method of the
// connection and its streams except Receive.
type Handler interface {
	// Request is called for a new request. r is what net/http's server would pass,
	// except that RemoteAddr, TLS and the context are unset. Body is nil, or
	// [http.NoBody] if the request has no body. Trailers are checked and discarded.
	Request(st *Stream, r *http.Request)

	// Data is called with part of the request's body. p is valid only during the call.
	// Once the bytes have been read, they must be returned with [Stream.Consumed]. end
	// is set in the last call.
	Data(st *Stream, p []byte, end bool)

	// Writable is called when the flow-control window has reopened after a Send that
	// didn't fit into it. Receive and [Conn.Wake] call it. Call Send or end the stream
	// soon, since its share of the window is withheld from other streams until then.
	Writable(st *Stream)

	// Closed is called when a stream ends in any way other than End, Reset or a
	// response without a body. If the client has reset the stream or violated the
	// protocol, err is an [http2.StreamError]. If the connection has ended, err is an
	// [*Error] or the error passed to [Conn.Close]. From then on, the stream's methods
	// have no effect.
	Closed(st *Stream, err error)
}

// Server holds the configuration that connections share. It is safe for concurrent use.
type Server struct {
	cfg      Config
	settings []byte // the server's connection preface
	start    time.Time

	interval time.Duration // between requests at the sustained rate
	burst    time.Duration // RequestBurst times interval
}

// Sizes that aren't negotiated.
const (
	headerLen     = 9       // of a frame (RFC 9113 §4.1)
	maxFrameSize  = 1 << 14 // in both directions; every peer accepts it
	defaultWindow = 1<<16 - 1
	maxWindow     = 1<<31 - 1
	maxStreamID   = 1<<31 - 1

	defaultTableSize = 4096 // of HPACK (RFC 9113 §6.5.2)

	// headerSlack is added to MaxHeaderBytes, as in net/http. It is the overhead of ten
	// fields as defined in RFC 9113 §6.5.2.
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
	s.settings = slices.Clip(settings) // so that connections can't append to it in place

	return s
}

func setDefault(v *int, value int) {
	if *v <= 0 {
		*v = value
	}
}

// maxHeaderList returns the maximum size of a request's fields, counted as in RFC 9113
// §6.5.2.
func (s *Server) maxHeaderList() uint32 { return uint32(s.cfg.MaxHeaderBytes + headerSlack) }

// maxFieldBlock returns the maximum size of an encoded field block, in bytes. A request
// with a block of up to this size can be answered with a status.
func (s *Server) maxFieldBlock() int { return 2 * int(s.maxHeaderList()) }

// elapsed returns the time since the server was created.
func (s *Server) elapsed() time.Duration { return s.cfg.Now().Sub(s.start) }

// date returns the current time for the date field.
func (s *Server) date() string { return s.cfg.Now().UTC().Format(http.TimeFormat) }
