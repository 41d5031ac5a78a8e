//go:build !linux

package engine

import (
	"errors"
	"net/http"
)

// Engine exists on Linux only.
type Engine struct{}

// New returns errors.ErrUnsupported.
func New(int) (*Engine, error) { return nil, errors.ErrUnsupported }

// TakeOver takes nothing over.
func (*Engine) TakeOver(http.ResponseWriter, *http.Request) (Body, error) { return nil, nil }

// Close does nothing.
func (*Engine) Close() error { return nil }
