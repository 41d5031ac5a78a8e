package main

import (
	"fmt"
	"net/http"
	"sync"
)

// plain is a handwritten server with a goroutine and a channel per stream.
type plain struct {
	mu      sync.Mutex
	streams map[chan []byte]<-chan struct{} // each with a channel that is closed when the client disconnects
}

func newPlain() *plain { return &plain{streams: map[chan []byte]<-chan struct{}{}} }

// ServeHTTP implements [server].
func (p *plain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const queue = 16 // messages queued for a stream
	frames := make(chan []byte, queue)
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

// publish blocks while a stream's channel is full, because a server that loses
// messages wouldn't be comparable.
func (p *plain) publish(data []byte) error {
	frame := fmt.Appendf(nil, "event: broadcast\ndata: %s\n\n", data)
	p.mu.Lock()
	defer p.mu.Unlock()
	for frames, done := range p.streams {
		select {
		case frames <- frame:
		case <-done:
		}
	}
	return nil
}
