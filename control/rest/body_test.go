package rest_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/peald/peald/control"
)

func TestContentEncodings(t *testing.T) {
	t.Parallel()

	s := startServer(t, control.Config{}, &fakeBroker{}, nil)

	for encoding, status := range map[string]int{
		"":                   http.StatusOK,
		"identity":           http.StatusOK,
		"Identity, identity": http.StatusOK,
		"gzip":               http.StatusUnsupportedMediaType,
		"identity, br":       http.StatusUnsupportedMediaType,
		"made-up":            http.StatusUnsupportedMediaType,
	} {
		got := s.do(t, http.MethodPost, "/v1/broadcast", `{"data":"hi"}`, "Content-Encoding", encoding)
		if got.StatusCode != status {
			t.Errorf("%q: response %s %s, want status %d", encoding, got.Status, got.body, status)
		}

		if status == http.StatusOK {
			continue
		}

		if f := got.failure(t); f.reason != "UNSUPPORTED_MEDIA_TYPE" || got.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("%q: error %+v, Accept-Encoding %q", encoding, f, got.Header.Get("Accept-Encoding"))
		}
	}
}

func TestByteOrderMarkIsIgnored(t *testing.T) {
	t.Parallel()

	s := startServer(t, control.Config{}, &fakeBroker{}, nil)

	if got := s.do(t, http.MethodPost, "/v1/broadcast", "\uFEFF"+`{"data":"hi"}`); got.StatusCode != http.StatusOK {
		t.Errorf("response %s %s, want 200", got.Status, got.body)
	}

	// Offsets include the byte order mark, and a second byte order mark is an
	// error.
	if got := s.do(t, http.MethodPost, "/v1/broadcast", "\uFEFF"+`{"data":"hi",}`); !strings.Contains(got.failure(t).message, "byte 17") {
		t.Errorf("response %s %s, want an error at byte 17", got.Status, got.body)
	}

	if got := s.do(t, http.MethodPost, "/v1/broadcast", "\uFEFF\uFEFF{}"); got.failure(t).reason != "INVALID_REQUEST" {
		t.Errorf("response %s %s, want INVALID_REQUEST", got.Status, got.body)
	}
}

// A client that writes its whole body before it reads must receive the response,
// no matter how much it writes.
func TestClientsThatKeepWritingGetTheResponse(t *testing.T) {
	t.Parallel()

	s := startServer(t, control.Config{}, &fakeBroker{}, nil)
	large := strings.Repeat("x", 12<<20)

	for name, test := range map[string]struct {
		head, body string
		status     int
	}{
		"too large": {
			fmt.Sprintf("POST /v1/broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", len(large)), large,
			http.StatusRequestEntityTooLarge,
		},
		"too large, HTTP/1.0": {
			fmt.Sprintf("POST /v1/broadcast HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", len(large)), large,
			http.StatusRequestEntityTooLarge,
		},
		"too large, chunked": {
			"POST /v1/broadcast HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
			fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(large), large),
			http.StatusRequestEntityTooLarge,
		},
		"encoded": {
			fmt.Sprintf("POST /v1/broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", len(large)), large,
			http.StatusUnsupportedMediaType,
		},
		"unknown path": {
			fmt.Sprintf("POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", len(large)), large,
			http.StatusNotFound,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			got := readResponse(t, s.dial(t, test.head+test.body))
			if f := got.failure(t); got.StatusCode != test.status {
				t.Errorf("response %s %+v, want status %d", got.Status, f, test.status)
			}
		})
	}
}

// A client that never stops writing also receives the response, and its
// connection is closed.
func TestConnectionsWithEndlessBodiesAreClosed(t *testing.T) {
	t.Parallel()

	s := startServer(t, control.Config{}, &fakeBroker{}, nil)
	conn := s.dial(t, "POST /v1/broadcast HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")

	stopped := make(chan error, 1)

	go func() {
		chunk := fmt.Appendf(nil, "%x\r\n%s\r\n", 1<<20, strings.Repeat("x", 1<<20))

		for {
			if _, err := conn.Write(chunk); err != nil {
				stopped <- err

				return
			}
		}
	}()

	if got := readResponse(t, conn); got.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("response %s %s, want 413", got.Status, got.body)
	}

	if err := <-stopped; errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}
