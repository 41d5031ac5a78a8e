//go:build !linux

package daemon

import (
	"errors"
	"net"
)

// canReusePort is false where the system doesn't share connections out among
// the sockets of an address, or doesn't let itself be told how.
const canReusePort = false

func reusePort(uintptr) error { return errors.ErrUnsupported }

func steer(net.Listener, uint32) error { return errors.ErrUnsupported }

func unsteer(net.Listener) {}

func boundAccept(net.Listener) error { return nil }

func queued(net.Listener) (n int, known bool) { return 0, false }
