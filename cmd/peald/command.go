package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/buildinfo"
	"github.com/peald/peald/internal/flags"
	"github.com/peald/peald/internal/logqueue"
)

const (
	statusFailed = 1
	statusUsage  = 2
)

// usageError reports an invalid command line.
type usageError struct{ error }

// run executes one command line and returns the exit status.
func run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	queue := logqueue.New(stderr)
	defer queue.Close(logFlushTimeout)

	cmd := rootCommand(env, queue)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(queue)

	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}

	// Errors from parsers may have several lines, but a log entry must be a single
	// line.
	_, _ = fmt.Fprintln(queue, "peald:", strings.Join(strings.Fields(err.Error()), " "))
	if _, ok := errors.AsType[usageError](err); ok {
		return statusUsage
	}

	return statusFailed
}

// rootCommand returns the peald command. Its log is written to queue.
func rootCommand(env []string, queue *logqueue.Queue) *cobra.Command {
	root := &cobra.Command{
		Use:           "peald",
		Short:         "Push server-sent events to browsers",
		Long:          "peald pushes server-sent events to browsers on behalf of backends.\n\n" + sourcesHelp,
		Args:          noArguments,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{flags.Error(cmd.Flags(), err)} })

	settings := settingFlags(root.PersistentFlags())
	completeSettings(root)

	d := &daemonCommand{settings: settings, env: env, queue: queue}
	root.Flags().StringVar(&d.readyPath, "ready-file", "", "write the bound addresses to this `FILE` as JSON once all listeners accept connections")
	root.Flags().BoolVar(&d.demo, "demo", false, "serve a demo page at / of the SSE listener and publish events for it; sse.addr then defaults to "+demoAddr)
	root.RunE = func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context(), cmd.OutOrStdout()) }
	flags.AddVersion(root, buildinfo.Line())

	root.AddCommand(configCommand(settings, env), versionCommand())
	flags.Once(root)
	return root
}

// daemonCommand holds the arguments of the command that runs the daemon.
type daemonCommand struct {
	settings  settingsFlags
	env       []string
	queue     *logqueue.Queue
	readyPath string
	demo      bool
}

// run runs the daemon until ctx is done or a signal arrives.
func (d *daemonCommand) run(ctx context.Context, stdout io.Writer) error {
	surviveBrokenPipes()

	ctx, release := untilSignal(ctx)
	defer release()

	hangUps, stop := reloadSignals()
	defer stop()

	file, err := findFile(*d.settings.configFile)
	if err != nil {
		return err
	}

	cfg, err := d.settings.loadFrom(file, d.env, d.demo)
	if err != nil {
		return err
	}

	ready := &readyFile{path: d.readyPath}
	if err := ready.check(); err != nil {
		return err
	}

	// Remove the file before a second signal can kill the process, so that the file
	// doesn't outlast the process.
	context.AfterFunc(ctx, func() {
		ready.remove()
		release()
	})
	defer ready.remove()

	tuneCollector(d.env)
	cfg.Broker.Shards = tuneProcessors(cfg.Broker.Shards, d.env)

	level := new(slog.LevelVar)
	log := newLogger(d.queue, cfg.Log, level)
	adoptLibraryLogs(log)

	tracer, flush, err := tracing(ctx, d.env, log)
	if err != nil {
		return err
	}
	defer flush()

	inherited, err := inheritedSockets()
	if err != nil {
		return err
	}

	stopWatchdog := startWatchdog(ctx, log)
	defer stopWatchdog()

	reload := make(chan daemon.Reload)
	reloading := startReloader(ctx, file, reload, hangUps, func(file configFile) (daemon.Config, error) {
		next, err := d.settings.loadFrom(file, d.env, d.demo)
		if next.Broker.Shards == 0 {
			next.Broker.Shards = cfg.Broker.Shards
		}
		return next, err
	})
	defer reloading.stop()

	screen := logqueue.New(stdout)
	defer screen.Close(logFlushTimeout)

	return daemon.Run(ctx, cfg, daemon.Options{
		Tracer:     tracer,
		TuneMemory: !isSet(d.env, "GOGC"),
		Logger:     log,
		LogLevel:   level,
		LostLines:  d.queue.Lost,
		Reload:     reload,
		Version:    buildinfo.Version(),
		Demo:       d.demo,
		Inherited:  inherited,
		Ready: func(bound daemon.Addresses) error {
			log.Info("configuration loaded", "file", cmp.Or(file.name, "none"))
			if d.demo {
				printWelcome(screen, cfg, bound)
			}
			if err := ready.write(bound); err != nil {
				return err
			}
			notify(log, "STATUS=accepting")
			return nil
		},
		Settled: func(serving bool) {
			notify(log, sd.SdNotifyReady, settledStatus(serving))
		},
		Ending: func() {
			ready.remove()
			notify(log, stoppingStatus(cfg.Drain.Timeout)...)
		},
	})
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit and the Go version of the build",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.Println(buildinfo.Line())
			return nil
		},
	}
}

// noArguments is like [cobra.NoArgs], but returns usage errors.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		if _, err := strconv.ParseBool(args[0]); err == nil {
			return usageError{fmt.Errorf("unknown command %q; to set a boolean flag, write %s=%s", args[0], booleanFlag(cmd.Flags()), args[0])}
		}
	}
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}

// booleanFlag returns a boolean flag of the command line, or an example of one.
func booleanFlag(flags *pflag.FlagSet) string {
	name := "--auth.anonymous"
	flags.Visit(func(f *pflag.Flag) {
		if f.NoOptDefVal != "" {
			name = "--" + f.Name
		}
	})
	return name
}
