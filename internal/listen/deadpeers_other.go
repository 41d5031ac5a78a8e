//go:build !linux

package listen

import (
	"net"
	"time"
)

// closeDeadPeers leaves dead peers to package net's keep-alive and the system's
// own limits.
func closeDeadPeers(*net.ListenConfig, time.Duration) {}

func setPeerOptions(*net.TCPListener, time.Duration) error { return nil }

func setPeerTimeout(*net.TCPListener, time.Duration) {}
