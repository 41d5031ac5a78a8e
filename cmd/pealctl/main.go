// Pealctl is the command-line client of peald. It publishes messages, queries
// and controls the daemon, follows event streams and runs benchmarks. Each
// command documents itself in its help text.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// Restore the default handling after the first signal, so that a second one
	// kills the process.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	s := &session{stdin: stdin, stdout: stdout, stderr: stderr, getenv: getenv}
	root := newRoot(s)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	started := false
	trackStart(root, &started)
	err := root.ExecuteContext(ctx)
	if err != nil {
		s.printError(err)
	}
	return exitStatus(err, started)
}
