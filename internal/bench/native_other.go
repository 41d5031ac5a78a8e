//go:build !linux

package bench

import (
	"context"
	"net/url"
)

// newNativePool returns nil: this system has only the portable pool.
func newNativePool(context.Context, *run, *url.URL) (pool, error) { return nil, nil }
