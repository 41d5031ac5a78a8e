package daemon

import (
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// sources holds the parts and functions that metrics are read from.
type sources struct {
	broker         *broker.Broker
	streams        *ssehttp.Handler
	rejected       func() map[string]int64
	maxConnections func() int64
	descriptors    func() (used, allowed int)
	keyReads       func() (good, failed int64)
	lostLines      func() int64 // may be nil
	version        string
}

// reading holds the values of the sources at one point in time.
type reading struct {
	broker.Stats

	now               time.Time
	latency, replays  broker.Histogram
	transports        map[string]int64
	engines           map[string]int64
	http2Connections  int64
	handshakes        ssehttp.Handshakes
	draining          bool
	rejected          map[string]int64
	maxConnections    int64
	used, allowed     int
	keysRead, keysBad int64
	lostLines         int64
	version           string
}

func (s *sources) read() *reading {
	r := &reading{
		Stats:            s.broker.Stats(),
		now:              time.Now(),
		latency:          s.broker.Latency(),
		replays:          s.broker.Replays(),
		transports:       s.streams.Transports(),
		engines:          s.streams.Engines(),
		http2Connections: s.streams.HTTP2Connections(),
		handshakes:       s.streams.TLSHandshakes(),
		draining:         s.streams.Draining(),
		rejected:         s.rejected(),
		maxConnections:   s.maxConnections(),
		version:          s.version,
	}
	r.used, r.allowed = s.descriptors()
	r.keysRead, r.keysBad = s.keyReads()
	if s.lostLines != nil {
		r.lostLines = s.lostLines()
	}
	return r
}
