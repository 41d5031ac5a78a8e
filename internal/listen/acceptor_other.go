//go:build !linux

package listen

import "time"

// acceptor does nothing: descriptors are accepted only on Linux.
type acceptor struct{}

func (*acceptor) setDeadline(time.Time) {}
func (*acceptor) close() error          { return nil }
