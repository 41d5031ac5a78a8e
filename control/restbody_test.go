package control_test

import (
	"net/http"
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
