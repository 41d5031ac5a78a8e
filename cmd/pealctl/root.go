package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/peald/peald/internal/buildinfo"
	"github.com/peald/peald/internal/flags"
)

const envPrefix = "PEALCTL_"

func newRoot(s *session) *cobra.Command {
	root := &cobra.Command{
		Use:   "pealctl",
		Short: "Control, query and benchmark a peald daemon",
		Long: `pealctl is a client for a peald daemon. It calls the daemon's control plane over
gRPC and reads its event streams as a browser would.

Every global flag can also be set in the environment: --addr as PEALCTL_ADDR,
--ca-file as PEALCTL_CA_FILE, and so on. A flag on the command line takes
precedence.

The exit status is 0 on success, 2 for an invalid command line, and 1 for any
other failure.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return fromEnvironment(cmd.Root().PersistentFlags(), s.getenv)
		},
	}

	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return flags.Error(cmd.Flags(), err) })
	global := root.PersistentFlags()
	global.StringVar(&s.addr, "addr", "127.0.0.1:9090", "the daemon's gRPC `address`: HOST:PORT, or unix:PATH for a socket file")
	global.StringVar(&s.token, "token", "", "control `token`, if the daemon requires one")
	global.Var(&s.output, "output", "output format: table or json")
	global.DurationVar(&s.timeout, "timeout", 10*time.Second, "time limit for one call")
	global.BoolVar(&s.tls.enabled, "tls", false, "use TLS for the control plane (implied by --ca-file, --cert-file and --key-file)")
	global.StringVar(&s.tls.caFile, "ca-file", "", "PEM `file` of CA certificates to trust instead of the system's")
	global.StringVar(&s.tls.certFile, "cert-file", "", "PEM `file` with the client certificate")
	global.StringVar(&s.tls.keyFile, "key-file", "", "PEM `file` with the key of --cert-file")
	must(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats(), cobra.ShellCompDirectiveNoFileComp)))

	root.AddCommand(
		newBroadcast(s),
		newSend(s),
		newPublish(s),
		newUsers(s),
		newTopics(s),
		newSubscribers(s),
		newWatch(s),
		newHistory(s),
		newRetained(s),
		newPosition(s),
		newDisconnect(s),
		newDrain(s),
		newHealth(s),
		newStats(s),
		newNodes(s),
		newHooks(s),
		newSources(s),
		newToken(s),
		newTail(s),
		newBench(s),
		newVersion(s),
	)

	flags.AddVersion(root, buildinfo.Line())
	flags.Once(root)
	return root
}

// fromEnvironment sets every flag that the command line leaves unset from its
// environment variable.
func fromEnvironment(flags *pflag.FlagSet, getenv func(string) string) error {
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value := getenv(name)
		if value == "" || f.Changed || err != nil {
			return
		}
		if e := flags.Set(f.Name, value); e != nil {
			err = fmt.Errorf("%s: %w", name, e)
		}
	})
	return err
}

func newVersion(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit and the Go version of the build",
		Args:  arguments(),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(s.stdout, buildinfo.Line())
			return err
		},
	}
}

// must panics if err is not nil. It is for errors that only a bug in this
// program can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
