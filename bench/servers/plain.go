package main

import (
	"fmt"
	"net/http"
	"sync"
)

// plain is what one writes by hand: a goroutine and a channel for each stream.
type plain struct {
	mu      sync.Mutex
	streams map[chan []byte]<-chan struct{} // with what is closed when the client goes
}

func newPlain() *plain { return &plain{streams: map[chan []byte]<-chan struct{}{}} }

// ServeHTTP implements [server].
func (p *plain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const waiting = 16 // messages that may wait for a stream
	frames := make(chan []byte, waiting)
	p.mu.Lock()
	p.streams[frames] = r.Context().Done()
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.streams, frames)
		p.mu.Unlock()
	}()

	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	if rc.Flush() != nil {
		return
	}
	for {
		select {
		case frame := <-frames:
			if _, err := w.Write(frame); err != nil {
				return
			}
			if rc.Flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// publish waits for streams whose channel is full: to lose messages would be
// no comparison.
func (p *plain) publish(data []byte) error {
	frame := fmt.Appendf(nil, "event: broadcast\ndata: %s\n\n", data)
	p.mu.Lock()
	defer p.mu.Unlock()
	for frames, gone := range p.streams {
		select {
		case frames <- frame:
		case <-gone:
		}
	}
	return nil
}
