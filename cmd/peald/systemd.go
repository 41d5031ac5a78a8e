package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/peald/peald/daemon"
)

// inheritedSockets returns the sockets passed by systemd or a compatible parent
// process (sd_listen_fds(3)). They are identified by the names sse, grpc and rest
// or, without such names, by their order.
func inheritedSockets() (sockets daemon.Inherited, err error) {
	files := activation.Files(true)
	order, err := socketOrder(files)
	if err != nil {
		return sockets, err
	}

	listeners := []*net.Listener{&sockets.SSE, &sockets.GRPC, &sockets.REST}
	for i, f := range files {
		listener, err := net.FileListener(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return sockets, fmt.Errorf("inherited socket %s: %w", f.Name(), err)
		}
		*listeners[order[i]] = listener
	}

	return sockets, nil
}

// socketOrder returns for each file whether it is the socket for sse (0), grpc (1)
// or rest (2).
func socketOrder(files []*os.File) ([]int, error) {
	known := []string{"sse", "grpc", "rest"}
	var names []string

	for _, f := range files {
		names = append(names, f.Name())
	}

	named := slices.ContainsFunc(names, func(name string) bool { return slices.Contains(known, name) })
	var order []int

	for i, name := range names {
		index := i
		if named {
			index = slices.Index(known, name)
		}
		unnamed := name == names[0] || strings.HasPrefix(name, "LISTEN_FD_")
		if index < 0 || index >= len(known) || slices.Contains(order, index) || !named && !unnamed {
			return nil, fmt.Errorf("invalid names of inherited sockets: %s; want sse, grpc and rest, each at most once, or one other name for up to three sockets in this order", strings.Join(names, ", "))
		}
		order = append(order, index)
	}

	return order, nil
}

// notify sends status lines to systemd, if it asked for them (sd_notify(3)).
func notify(log *slog.Logger, lines ...string) {
	if _, err := sd.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		log.Warn("systemd notification failed", "error", err)
	}
}

// startWatchdog keeps resetting systemd's watchdog until stop is called, if systemd
// watches this process (sd_watchdog_enabled(3)).
func startWatchdog(ctx context.Context, log *slog.Logger) (stop func()) {
	timeout, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("invalid WATCHDOG_USEC or WATCHDOG_PID", "error", err)
	}
	if timeout <= 0 {
		return func() {}
	}

	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // continues during shutdown
	var running sync.WaitGroup
	running.Go(func() {
		ticks := time.NewTicker(max(timeout/2, time.Millisecond))
		defer ticks.Stop()

		for {
			notify(log, sd.SdNotifyWatchdog)
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
			}
		}
	})

	return func() {
		cancel()
		running.Wait()
	}
}

// settledStatus returns the status that systemd gets at the end of startup.
func settledStatus(serving bool) string {
	if serving {
		return "STATUS=serving"
	}
	return "STATUS=accepting, not ready yet (see /readyz)"
}

// stoppingStatus returns the status that systemd gets at the beginning of a
// shutdown. It extends the stop timeout, so that the unit doesn't have to.
func stoppingStatus(timeout time.Duration) []string {
	return []string{sd.SdNotifyStopping, "STATUS=draining", fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", timeout.Microseconds())}
}
