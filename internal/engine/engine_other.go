//go:build !linux

package engine

import (
	"errors"
	"net"
	"net/http"
)

// Engine works only on Linux.
type Engine struct{}

// New returns errors.ErrUnsupported.
func New(int) (*Engine, error) { return nil, errors.ErrUnsupported }

// TakeOver does nothing and returns false.
func (*Engine) TakeOver(http.ResponseWriter, *http.Request) (Body, bool, error) {
	return nil, false, nil
}

// Defer does nothing and returns false.
func (*Engine) Defer(http.ResponseWriter, *http.Request) (Body, bool, error) {
	return nil, false, nil
}

// Listen returns l unchanged.
func (*Engine) Listen(l net.Listener, _ ListenConfig) net.Listener { return l }

// HTTP2Connections returns 0.
func (*Engine) HTTP2Connections() int64 { return 0 }

// GoAway does nothing.
func (*Engine) GoAway() {}

// Close does nothing.
func (*Engine) Close() error { return nil }
