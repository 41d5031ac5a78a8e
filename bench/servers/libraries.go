package main

import (
	"net/http"

	r3labs "github.com/r3labs/sse/v2"
	gosse "github.com/tmaxmax/go-sse"
)

// streamName is the one stream of the library's that everybody reads.
const streamName = "messages"

// r3labsServer is one of github.com/r3labs/sse.
type r3labsServer struct{ *r3labs.Server }

func newR3labs() r3labsServer {
	s := r3labs.New()
	s.AutoReplay = false // it would keep all messages for ever
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

// goSSEServer is one of github.com/tmaxmax/go-sse.
type goSSEServer struct{ *gosse.Server }

func newGoSSE() goSSEServer {
	return goSSEServer{&gosse.Server{
		OnSession: func(w http.ResponseWriter, _ *http.Request) ([]string, bool) {
			// The library sends the head with the first message, and a browser
			// would take the stream for closed until then.
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
