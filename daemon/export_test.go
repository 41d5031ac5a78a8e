package daemon

import (
	"context"
	"log/slog"
	"net"
	"time"
)

// BudgetFor gives tests the shares of limit descriptors.
func BudgetFor(limit int) (streams, passing int) {
	b := budgetFor(limit)
	return b.streams, b.passing
}

// Slotted gives tests a listener of n slots.
func Slotted(listener *net.TCPListener, n int) net.Listener {
	return newSlotListener(listener, newSlots(n))
}

// ListenForBrowsers gives tests a listener whose connections lose dead peers.
func ListenForBrowsers(ctx context.Context, after time.Duration) (*net.TCPListener, error) {
	return listenTCP(ctx, forBrowsers(after), "sse.addr", "127.0.0.1:0")
}

// TellTroubles gives tests what is logged of streams refused for want of room.
func TellTroubles(ctx context.Context, log *slog.Logger, full func() int64) {
	tellTroubles(ctx, log, func() troubles { return troubles{full: full()} })
}
