package listen

import (
	"net"
	"time"
)

// BudgetOf gives tests the budget for limit descriptors.
func BudgetOf(limit int) Budget { return budgetOf(limit) }

// Slotted returns the listener that accepts at most n connections at a time.
func Slotted(listener net.Listener, n int) net.Listener {
	return newSlotListener(listener, newSlots(n))
}

// HoldTurn keeps Accept from accepting until release is called, as HandOver does. The
// connections are then pending.
func (l *Listener) HoldTurn(pending ...net.Conn) (release func()) {
	l.takeTurn()
	l.pending = pending

	return l.giveTurn
}

// SetHeaderTimeout shortens the time limit for a request's header. Call it before
// Serve.
func (s *Server) SetHeaderTimeout(timeout time.Duration) {
	s.http.ReadHeaderTimeout, s.http.IdleTimeout = timeout, timeout
}
