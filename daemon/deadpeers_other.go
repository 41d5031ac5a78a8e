//go:build !linux

package daemon

import (
	"net"
	"time"
)

// loseDeadPeers leaves them to package net's keep-alive and the system's own
// limits.
func loseDeadPeers(*net.ListenConfig, time.Duration) {}

func loseDeadPeersAfter(*net.TCPListener, time.Duration) {}

func loseDeadPeersOf(*net.TCPListener, time.Duration) error { return nil }
