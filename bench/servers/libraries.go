package main

import (
	"net/http"

	r3labs "github.com/r3labs/sse/v2"
	gosse "github.com/tmaxmax/go-sse"
)

// streamName is the name of the stream that all clients read.
const streamName = "messages"

// r3labsServer is a server that uses github.com/r3labs/sse.
type r3labsServer struct{ *r3labs.Server }

func newR3labs() r3labsServer {
	s := r3labs.New()
	s.AutoReplay = false // otherwise it keeps all messages forever
	s.CreateStream(streamName)
	return r3labsServer{s}
}

// ServeHTTP implements [server].
func (s r3labsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	query.Set("stream", streamName)
	r.URL.RawQuery = query.Encode()
	s.Server.ServeHTTP(w, r)
}

func (s r3labsServer) publish(data []byte) error {
	s.Publish(streamName, &r3labs.Event{Event: []byte("broadcast"), Data: data})
	return nil
}

// goSSEServer is a server that uses github.com/tmaxmax/go-sse.
type goSSEServer struct{ *gosse.Server }

func newGoSSE() goSSEServer {
	return goSSEServer{&gosse.Server{
		OnSession: func(w http.ResponseWriter, _ *http.Request) ([]string, bool) {
			// The library sends the response header with the first message. Until
			// then, a browser would not consider the stream open.
			w.Header().Set("Content-Type", "text/event-stream")
			return []string{gosse.DefaultTopic}, http.NewResponseController(w).Flush() == nil
		},
	}}
}

func (s goSSEServer) publish(data []byte) error {
	m := &gosse.Message{Type: gosse.Type("broadcast")}
	m.AppendData(string(data))
	return s.Publish(m)
}
