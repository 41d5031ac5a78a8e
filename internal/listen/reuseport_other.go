//go:build !linux

package listen

import (
	"errors"
	"net"
)

// CanReusePort reports whether the system spreads connections over all sockets on
// an address, and lets a process choose the socket.
const CanReusePort = false

func reusePort(uintptr) error { return errors.ErrUnsupported }

func steer(net.Listener, uint32) error { return errors.ErrUnsupported }

func unsteer(net.Listener) {}

func boundAccept(net.Listener) error { return nil }

func queued(net.Listener) (n int, known bool) { return 0, false }
