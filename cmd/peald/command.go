package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/peald/peald/daemon"
)

const (
	statusFailed = 1
	statusUsage  = 2
)

// usageError is a command line that cannot be read.
type usageError struct{ error }

// run is the whole program but for the process around it. It returns the exit
// status.
func run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	cmd := rootCommand(env)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	// Parsers report over several lines, and an operator's log has one.
	_, _ = fmt.Fprintln(stderr, "peald:", strings.Join(strings.Fields(err.Error()), " "))
	if _, ok := errors.AsType[usageError](err); ok {
		return statusUsage
	}
	return statusFailed
}

func rootCommand(env []string) *cobra.Command {
	var readyFile string
	var demo bool
	root := &cobra.Command{
		Use:           "peald",
		Short:         "Push server-sent events to browsers",
		Long:          "peald pushes server-sent events to browsers on behalf of backends.\n\n" + sourcesHelp,
		Args:          noArguments,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	flags := settingFlags(root.PersistentFlags())
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := flags.load(env)
		if err != nil {
			return err
		}
		ready := readyFileAt(readyFile)
		if err := ready.remove(); err != nil { // an earlier process may have been killed
			return err
		}
		defer func() { _ = ready.remove() }()
		collector(env)
		cfg.Broker.Shards = processors(cfg.Broker.Shards, env)
		return daemon.Run(cmd.Context(), cfg, daemon.Options{
			Logger:  newLogger(cmd.ErrOrStderr(), cfg.Log),
			Version: version(),
			Demo:    demo,
			Ready: func(bound daemon.Addresses) error {
				if demo {
					if err := welcome(cmd.OutOrStdout(), cfg, bound); err != nil {
						return err
					}
				}
				return ready.write(bound)
			},
		})
	}
	root.Flags().StringVar(&readyFile, "ready-file", "", "write the bound addresses to this `FILE` as JSON once all listeners accept")
	root.Flags().BoolVar(&demo, "demo", false, "serve a page at / of the SSE listener, and events for it to show")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(configCommand(flags, env), versionCommand())
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.Println(version())
			return nil
		},
	}
}

// noArguments is cobra.NoArgs as an error of usage.
func noArguments(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}

// version is what the go command recorded: a tag, a pseudo-version, or (devel).
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
