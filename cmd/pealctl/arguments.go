package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const (
	statusFailed = 1
	statusUsage  = 2
)

// usageError reports an invalid command line.
type usageError struct{ error }

// Unwrap implements the interface of [errors.Unwrap].
func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// arguments requires one positional argument per name. Its errors name the
// missing ones.
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		usage := cmd.Parent().CommandPath() + " " + cmd.Use
		if len(args) < len(names) {
			return fmt.Errorf("missing %s; usage: %s", strings.Join(names[len(args):], " and "), usage)
		}
		if len(args) > len(names) {
			return fmt.Errorf("unexpected argument %q (quote text that contains spaces); usage: %s", args[len(names)], usage)
		}
		return nil
	}
}

// optionalArgument allows one positional argument.
func optionalArgument(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return arguments(name)(cmd, args)
		}
		return nil
	}
}

// trackStart makes cmd and its subcommands set *started when they run. An error
// before that is a usage error.
func trackStart(cmd *cobra.Command, started *bool) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		trackStart(sub, started)
	}
}

// exitStatus returns the exit status of a run that returned err.
func exitStatus(err error, started bool) int {
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[usageError](err); ok || !started {
		return statusUsage
	}
	return statusFailed
}
