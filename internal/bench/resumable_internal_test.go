package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"testing"
)

// TestCutWhileConnecting checks that a connection whose dialer timed out shortly
// before its context counts as cut, and not as rejected by the server.
func TestCutWhileConnecting(t *testing.T) {
	timeout := &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
	if err := causeOf(t.Context(), timeout); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the cause of %v is %v, want %v", timeout, err, context.DeadlineExceeded)
	}
}

// TestResumableOverTLS reads a stream twice over each transport. The second
// connection must resume the TLS session of the first, and the stream.
func TestResumableOverTLS(t *testing.T) {
	t.Parallel()
	for _, overHTTP2 := range []bool{false, true} {
		requests := make(chan *http.Request, 2)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests <- r
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "id: 7\ndata: x\n\n")
		}))
		server.EnableHTTP2 = true
		server.StartTLS()
		defer server.Close()

		trusted := x509.NewCertPool()
		trusted.AddCert(server.Certificate())
		address, err := url.Parse(server.URL + "/events")
		if err != nil {
			t.Fatal(err)
		}

		s := newResumable(address, transport{&tls.Config{RootCAs: trusted}, overHTTP2}, "secret", "a")
		for resumed, lastID := range []string{"", "7"} {
			var events int
			err := s.read(t.Context(), 100, func(_, _ []byte) { events++ }, func() {})
			if !errors.Is(err, errServerClosed) || events != 1 {
				t.Fatalf("HTTP/2 %t: %d events, error %v", overHTTP2, events, err)
			}
			r := <-requests
			if r.TLS.DidResume != (resumed == 1) || r.Header.Get("Last-Event-ID") != lastID || (r.ProtoMajor == 2) != overHTTP2 {
				t.Errorf("HTTP/2 %t: %s request with Last-Event-ID %q, session resumed: %t", overHTTP2, r.Proto, r.Header.Get("Last-Event-ID"), r.TLS.DidResume)
			}
			if r.URL.RawQuery != "topic=a" || r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("Accept") != "text/event-stream" {
				t.Errorf("HTTP/2 %t: %s with %v", overHTTP2, r.URL, r.Header)
			}
		}
	}
}
