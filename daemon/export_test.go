package daemon

import "net"

// BudgetFor gives tests the shares of limit descriptors.
func BudgetFor(limit int) (streams, passing int) {
	b := budgetFor(limit)
	return b.streams, b.passing
}

// Slotted gives tests a listener of n slots.
func Slotted(listener *net.TCPListener, n int) net.Listener {
	return newSlotListener(listener, newSlots(n))
}
