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

// usageError is a command line that cannot be acted on.
type usageError struct{ error }

// Unwrap implements the interface of [errors.Unwrap].
func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// arguments asks for an argument for each name, and says which is missing.
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		usage := cmd.Parent().CommandPath() + " " + cmd.Use
		if len(args) < len(names) {
			return fmt.Errorf("there is no %s: %s", strings.Join(names[len(args):], " and "), usage)
		}
		if len(args) > len(names) {
			return fmt.Errorf("%q is one argument too many (quote text that has spaces): %s", args[len(names)], usage)
		}
		return nil
	}
}

// tellingUsage has every command note that it has begun: an error that comes
// before is one of the command line.
func tellingUsage(cmd *cobra.Command, begun *bool) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*begun = true
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		tellingUsage(sub, begun)
	}
}

// statusOf is the exit status of a run that ended with err.
func statusOf(err error, begun bool) int {
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[usageError](err); ok || !begun {
		return statusUsage
	}
	return statusFailed
}
