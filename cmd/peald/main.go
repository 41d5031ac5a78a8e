// Command peald pushes server-sent events to browsers on behalf of backends:
// they call its control plane, browsers hold streams on its SSE listener.
//
// "peald" runs the daemon, "peald config" prints what it would run on. Every
// setting is a flag, an environment variable and an entry of a configuration
// file; docs/configuration.md lists them.
//
// SIGTERM or an interrupt ends the daemon in good order, a second one at once.
// The exit status is 0 after such an end, 2 for a command line that cannot be
// read, and 1 for any other failure. SIGHUP has it read its settings again, as
// a change of the configuration file does.
package main

//go:generate go test -run TestReferenceIsFresh . -update

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// untilTold returns a context that ends at the first signal to end the daemon.
// Release gives further ones their usual effect, which is to end the process at
// once.
func untilTold(ctx context.Context) (told context.Context, release func()) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// hangUps returns a channel that gets the signal to read the settings again.
// Whoever starts the daemon with it ignored, as nohup does, sends it for
// another reason.
func hangUps() (told <-chan os.Signal, stop func()) {
	signals := make(chan os.Signal, 1)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	return signals, func() { signal.Stop(signals) }
}
