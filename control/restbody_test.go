package control_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/peald/peald/control"
)

func TestRESTContentEncodings(t *testing.T) {
	t.Parallel()

	p := start(t, control.Config{}, &fake{}, nil)

	for coding, status := range map[string]int{
		"":                   http.StatusOK,
		"identity":           http.StatusOK,
		"Identity, identity": http.StatusOK,
		"gzip":               http.StatusUnsupportedMediaType,
		"identity, br":       http.StatusUnsupportedMediaType,
		"made-up":            http.StatusUnsupportedMediaType,
	} {
		got := p.do(t, http.MethodPost, "/v1/broadcast", `{"data":"hi"}`, "Content-Encoding", coding)
		if got.StatusCode != status {
			t.Errorf("%q: %s %s", coding, got.Status, got.body)
		}

		if status == http.StatusOK {
			continue
		}

		if f := got.failure(t); f.reason != "UNSUPPORTED_MEDIA_TYPE" || got.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("%q: %+v, Accept-Encoding %q", coding, f, got.Header.Get("Accept-Encoding"))
		}
	}
}

func TestRESTSkipsByteOrderMark(t *testing.T) {
	t.Parallel()

	p := start(t, control.Config{}, &fake{}, nil)

	if got := p.do(t, http.MethodPost, "/v1/broadcast", "\uFEFF"+`{"data":"hi"}`); got.StatusCode != http.StatusOK {
		t.Errorf("%s %s", got.Status, got.body)
	}

	// The mark counts in offsets, and a second one is an error.
	if got := p.do(t, http.MethodPost, "/v1/broadcast", "\uFEFF"+`{"data":"hi",}`); !strings.Contains(got.failure(t).message, "byte 17") {
		t.Errorf("%s %s", got.Status, got.body)
	}

	if got := p.do(t, http.MethodPost, "/v1/broadcast", "\uFEFF\uFEFF{}"); got.failure(t).reason != "INVALID_REQUEST" {
		t.Errorf("%s %s", got.Status, got.body)
	}
}

// A client that writes all of its body before it reads gets the response,
// however much it writes.
func TestRESTAnswersClientsThatKeepWriting(t *testing.T) {
	t.Parallel()

	p := start(t, control.Config{}, &fake{}, nil)
	addr := strings.TrimPrefix(p.url, "http://")
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

			got := readAnswer(t, dialREST(t, addr, test.head+test.body))
			if f := got.failure(t); got.StatusCode != test.status {
				t.Errorf("%s %+v", got.Status, f)
			}
		})
	}
}

// A client that never stops writing gets the response too, and its connection
// is closed.
func TestRESTClosesConnectionsOfEndlessBodies(t *testing.T) {
	t.Parallel()

	p := start(t, control.Config{}, &fake{}, nil)
	conn := dialREST(t, strings.TrimPrefix(p.url, "http://"),
		"POST /v1/broadcast HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")

	stopped := make(chan error, 1)

	go func() {
		chunk := []byte(fmt.Sprintf("%x\r\n%s\r\n", 1<<20, strings.Repeat("x", 1<<20)))

		for {
			if _, err := conn.Write(chunk); err != nil {
				stopped <- err

				return
			}
		}
	}()

	if got := readAnswer(t, conn); got.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%s %s", got.Status, got.body)
	}

	if err := <-stopped; errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection stays open")
	}
}
