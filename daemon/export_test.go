package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
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

// Summarize logs summaries of rejections, by their causes, until ctx ends.
func Summarize(ctx context.Context, log *slog.Logger, counts map[string]func() int64) {
	newSummaries(log, func() (found []occurrence) {
		for cause, count := range counts {
			found = append(found, occurrence{occurrenceKind{"streams rejected", "cause", cause}, rejectionLevel(cause), count()})
		}
		return found
	}).run(ctx)
}

// Serve serves handler on listener as browsers are served, with little time for
// a request's header, until end is called.
func Serve(listener net.Listener, handler http.Handler, tlsConfig *tls.Config, patience time.Duration) (end func(context.Context) error) {
	s := newHTTPServer(handler, tlsConfig, slog.New(slog.DiscardHandler))
	s.ReadHeaderTimeout, s.IdleTimeout = patience, patience
	served := make(chan error, 1)
	go func() { served <- s.serve(listener) }()
	return func(ctx context.Context) error { return errors.Join(s.end(ctx), <-served) }
}

// Settle gives tests how a start waits for its cluster, where the node serves
// once served is closed.
func Settle(ctx context.Context, served chan struct{}, settled func(serving bool)) {
	(&member{served: served}).settle(ctx, settled)
}

// TuneMemory gives tests what sets the collector's percent by the connections
// accepted.
func TuneMemory(ctx context.Context, accepted func() int64) { tuneMemory(ctx, accepted) }
