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

// inheritedSockets are those that systemd, or whoever does as it does, has
// opened (sd_listen_fds(3)): by their names sse, grpc and rest, or in this
// order if they have none of their own.
func inheritedSockets() (sockets daemon.Inherited, err error) {
	files := activation.Files(true)
	places, err := placesOf(files)
	if err != nil {
		return sockets, err
	}

	listeners := []*net.Listener{&sockets.SSE, &sockets.GRPC, &sockets.REST}
	for i, f := range files {
		listener, err := net.FileListener(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return sockets, fmt.Errorf("the socket %s that was inherited: %w", f.Name(), err)
		}
		*listeners[places[i]] = listener
	}

	return sockets, nil
}

// placesOf says of each file which of the three sockets it is.
func placesOf(files []*os.File) ([]int, error) {
	known := []string{"sse", "grpc", "rest"}
	var names []string

	for _, f := range files {
		names = append(names, f.Name())
	}

	named := slices.ContainsFunc(names, func(name string) bool { return slices.Contains(known, name) })
	var places []int

	for i, name := range names {
		place := i
		if named {
			place = slices.Index(known, name)
		}
		unnamed := name == names[0] || strings.HasPrefix(name, "LISTEN_FD_")
		if place < 0 || place >= len(known) || slices.Contains(places, place) || !named && !unnamed {
			return nil, fmt.Errorf("sockets that were inherited are called %s, accepted: sse, grpc and rest, each once, or up to three of one other name, in this order", strings.Join(names, ", "))
		}
		places = append(places, place)
	}

	return places, nil
}

// notify tells systemd how the daemon is, if it asked for that (sd_notify(3)).
func notify(log *slog.Logger, lines ...string) {
	if _, err := sd.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		log.Warn("systemd can't be told", "error", err)
	}
}

// startWatchdog keeps systemd's watchdog fed until stop is called, if it watches
// this process (sd_watchdog_enabled(3)).
func startWatchdog(ctx context.Context, log *slog.Logger) (stop func()) {
	within, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("invalid WATCHDOG_USEC or WATCHDOG_PID", "error", err)
	}
	if within <= 0 {
		return func() {}
	}

	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it also watches the shutdown
	var feeding sync.WaitGroup
	feeding.Go(func() {
		ticks := time.NewTicker(max(within/2, time.Millisecond))
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
		feeding.Wait()
	}
}

// statusOnceSettled is what systemd is told when a start is over.
func statusOnceSettled(serving bool) string {
	if serving {
		return "STATUS=serving"
	}
	return "STATUS=accepting, and not serving yet: /readyz says why"
}

// stopping is what systemd is told when the daemon begins to end: also that it
// may take its time, which the unit need not know.
func stopping(timeout time.Duration) []string {
	return []string{sd.SdNotifyStopping, "STATUS=draining", fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", timeout.Microseconds())}
}
