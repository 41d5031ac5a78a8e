package ssehttp

import (
	"net/http"
	"sync"
	"time"

	"github.com/peald/peald/internal/broker"
)

// serve runs a stream on net/http's own path, with the request's goroutine as
// the one that writes. It returns when the stream has ended. The stream's lines
// in the log may be nil.
func serve(w http.ResponseWriter, r *http.Request, st *broker.Stream, writeTimeout time.Duration, lines *streamLog) error {
	sink := &responseSink{
		stream: st,
		rc:     http.NewResponseController(w),
		work:   make(chan struct{}, 1),
	}
	if err := st.Start(lines.around(sink, transportOf(r)), broker.Opening{}); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	sink.run(w, r, writeTimeout)
	return nil
}

// maxBatch bounds what a responseSink takes at once, so that what waits is in
// the stream's queue, where the policy for slow consumers sees it.
const maxBatch = 64 << 10

// responseSink is the sink of a stream that has a goroutine of its own: the
// shard hands it a batch, and the goroutine writes it.
type responseSink struct {
	stream *broker.Stream
	rc     *http.ResponseController
	work   chan struct{} // has a token when batch or closed was set

	mu      sync.Mutex
	batch   [][]byte // what is handed over and not yet out
	refused bool     // the shard waits for Ready
	closed  bool     // no more batches come
	gone    bool     // the goroutine has left; rc must not be used any more
}

// Write implements [broker.Sink].
func (s *responseSink) Write(pieces [][]byte) (n int, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.batch) > 0 {
		s.refused = true
		return 0, nil
	}
	for _, piece := range pieces {
		if n >= maxBatch {
			s.refused = true
			break
		}
		s.batch = append(s.batch, piece)
		n += len(piece)
	}
	s.signal()
	return n, nil
}

// lastBatch is how long a connection may take for the last batch of a stream
// that the daemon ends.
const lastBatch = 2 * time.Second

// Close implements [broker.Sink]. A stream that is ended for its slowness
// ends at once; any other after its last batch.
func (s *responseSink) Close(why broker.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if !s.gone {
		switch why {
		case broker.SlowConsumer, broker.WriteTimeout:
			_ = s.rc.SetWriteDeadline(time.Unix(1, 0))
		case broker.Drained, broker.Shutdown:
			_ = s.rc.SetWriteDeadline(time.Now().Add(lastBatch))
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

// run writes batches until the stream is closed. Only the shard closes a
// stream, so a client that hangs up is reported and then waited for.
func (s *responseSink) run(w http.ResponseWriter, r *http.Request, writeTimeout time.Duration) {
	hungUp := r.Context().Done()
	failed := false
	for {
		select {
		case <-hungUp:
			s.stream.HangUp()
			hungUp = nil
			failed = true
		case <-s.work:
		}
		s.mu.Lock()
		batch, closed := s.batch, s.closed
		s.mu.Unlock()
		if !failed && len(batch) > 0 {
			if failed = !s.write(w, batch, writeTimeout); failed {
				s.stream.HangUp()
			}
		}
		s.mu.Lock()
		refused := s.refused
		if len(batch) > 0 {
			clear(s.batch)
			s.batch, s.refused = s.batch[:0], false
		}
		s.gone = closed
		s.mu.Unlock()
		if closed {
			return
		}
		if refused && len(batch) > 0 {
			s.stream.Ready()
		}
	}
}

// write writes a batch and flushes once.
func (s *responseSink) write(w http.ResponseWriter, batch [][]byte, timeout time.Duration) bool {
	for _, piece := range batch {
		s.extend(timeout)
		if _, err := w.Write(piece); err != nil {
			return false
		}
	}
	s.extend(timeout)
	return s.rc.Flush() == nil
}

// extend gives the connection another while to take bytes, unless the stream
// has been closed in the meantime.
func (s *responseSink) extend(timeout time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		_ = s.rc.SetWriteDeadline(time.Now().Add(timeout))
	}
}
