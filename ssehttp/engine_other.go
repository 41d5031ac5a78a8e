//go:build !linux

package ssehttp

import (
	"errors"
	"net/http"
	"time"

	"github.com/peald/peald/internal/broker"
)

// engine exists on Linux only. On other systems all streams use net/http.
type engine struct{}

func newEngine(int, streamCount) (*engine, error) {
	return nil, errors.ErrUnsupported
}

func (*engine) serve(http.ResponseWriter, *http.Request, *broker.Stream, broker.Opening, *reservation, time.Duration, *streamLog) (bool, error) {
	return false, nil
}

func (*engine) close() error { return nil }
