// Command peald pushes server-sent events to browsers. Backends publish through
// its control plane, and browsers open streams on its SSE listener.
//
// "peald" runs the daemon, and "peald config" prints the configuration that it
// would run with. Every setting is available as a flag, as an environment
// variable and as a key in the configuration file; docs/configuration.md lists
// them.
//
// SIGTERM or SIGINT shuts the daemon down gracefully, and a second signal kills
// it. The exit status is 0 after a graceful shutdown, 2 for an invalid command
// line, and 1 for any other failure. SIGHUP reloads the settings, as does a change
// to the configuration file.
package main

//go:generate go test -run TestReferenceIsUpToDate . -update

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// untilSignal returns a context that is done at the first SIGTERM or SIGINT. The
// release function restores the default behavior, in which those signals kill the
// process.
func untilSignal(ctx context.Context) (_ context.Context, release func()) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// reloadSignals returns a channel that receives SIGHUP, the signal to reload the
// settings. If the daemon was started with SIGHUP ignored, for example by nohup,
// the signal stays ignored.
func reloadSignals() (received <-chan os.Signal, stop func()) {
	signals := make(chan os.Signal, 1)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	return signals, func() { signal.Stop(signals) }
}
