package ssehttp

import (
	"net/http"
	"sync"
	"time"

	"github.com/peald/peald/internal/broker"
)

// serve serves a stream through net/http. The request's goroutine writes, and
// returns when the stream is closed. lines may be nil.
func serve(w http.ResponseWriter, r *http.Request, st *broker.Stream, open broker.Opening, writeTimeout time.Duration, lines *streamLog) error {
	sink := newResponseSink(w, st)
	if err := st.Start(lines.around(sink, transportOf(r)), open); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	sink.run(w, r, writeTimeout)
	return nil
}

// maxUnwritten limits the bytes that a responseSink has accepted but not yet
// written, so that the rest stays in the stream's queue, where the policy for slow
// consumers applies.
const maxUnwritten = 64 << 10

// responseSink is the sink of a stream with its own goroutine. The shard hands
// over pieces, and the goroutine writes them.
type responseSink struct {
	stream *broker.Stream
	rc     *http.ResponseController
	work   chan struct{} // has a token when pieces or closed has been set

	mu        sync.Mutex
	pieces    [][]byte // handed over and not yet taken by the goroutine
	unwritten int      // bytes that have been handed over and not yet written
	full      bool     // the shard waits for Ready
	closed    bool     // no more pieces will come
	exited    bool     // the goroutine has returned; rc must not be used any more
}

func newResponseSink(w http.ResponseWriter, st *broker.Stream) *responseSink {
	return &responseSink{stream: st, rc: http.NewResponseController(w), work: make(chan struct{}, 1)}
}

// Write implements [broker.Sink].
func (s *responseSink) Write(pieces [][]byte) (n int, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, piece := range pieces {
		if s.unwritten >= maxUnwritten {
			s.full = true
			break
		}
		s.pieces = append(s.pieces, piece)
		s.unwritten += len(piece)
		n += len(piece)
	}
	s.signal()
	return n, nil
}

// lastBatchTimeout limits how long a connection may take to accept the last batch of a
// stream that the daemon closes.
const lastBatchTimeout = 2 * time.Second

// Close implements [broker.Sink]. The connection of a slow client is closed
// immediately, and any other connection after its last batch.
func (s *responseSink) Close(why broker.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if !s.exited {
		switch why {
		case broker.SlowConsumer, broker.WriteTimeout:
			_ = s.rc.SetWriteDeadline(time.Unix(1, 0))
		case broker.Drained, broker.Shutdown:
			_ = s.rc.SetWriteDeadline(time.Now().Add(lastBatchTimeout))
		default:
		}
	}
	s.signal()
}

func (s *responseSink) signal() {
	select {
	case s.work <- struct{}{}:
	default:
	}
}

// run writes pieces until the stream is closed. Only the shard closes a stream,
// so when the client hangs up, run reports it and waits for the shard.
func (s *responseSink) run(w http.ResponseWriter, r *http.Request, writeTimeout time.Duration) {
	hungUp := r.Context().Done()
	failed := false
	var batch [][]byte
	for {
		select {
		case <-hungUp:
			s.stream.HangUp()
			hungUp = nil
			failed = true
		case <-s.work:
		}

		s.mu.Lock()
		batch, s.pieces = s.pieces, batch
		closed := s.closed
		s.mu.Unlock()
		if !failed && len(batch) > 0 {
			if failed = !s.write(w, batch, writeTimeout); failed {
				s.stream.HangUp()
			}
		}

		s.mu.Lock()
		for _, piece := range batch {
			s.unwritten -= len(piece)
		}
		ready := s.full && len(batch) > 0
		if ready {
			s.full = false
		}
		s.exited = closed
		s.mu.Unlock()
		if closed {
			return
		}
		if ready {
			s.stream.Ready()
		}
		clear(batch)
		batch = batch[:0]
	}
}

// write writes a batch and then flushes once. It reports whether both succeeded.
func (s *responseSink) write(w http.ResponseWriter, batch [][]byte, timeout time.Duration) bool {
	for _, piece := range batch {
		s.extend(timeout)
		if _, err := w.Write(piece); err != nil { //nolint:gosec // No browser renders an event stream or JSON.
			return false
		}
	}
	s.extend(timeout)
	return s.rc.Flush() == nil
}

// extend renews the connection's write deadline, unless the stream has been closed in
// the meantime.
func (s *responseSink) extend(timeout time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		_ = s.rc.SetWriteDeadline(time.Now().Add(timeout))
	}
}
