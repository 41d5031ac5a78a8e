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
		Short: "Publish through peald, ask it, follow its streams and measure it",
		Long: `pealctl speaks to a peald daemon: to its control plane by gRPC, to its event
streams as a browser would.

Every global flag can be set in the environment too: --addr as PEALCTL_ADDR,
--ca-file as PEALCTL_CA_FILE. The flag wins.

The exit status is 0, or 2 for a command line that cannot be acted on, or 1 for
any other failure.`,
		Version:       buildinfo.Line(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return fromEnvironment(cmd.Root().PersistentFlags(), s.getenv)
		},
	}

	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return flags.Error(cmd.Flags(), err) })
	global := root.PersistentFlags()
	global.StringVar(&s.addr, "addr", "127.0.0.1:9090", "the daemon's gRPC `address`, as HOST:PORT, or unix:PATH for a socket file")
	global.StringVar(&s.token, "token", "", "control `token`, where the daemon asks for one")
	global.Var(&s.output, "output", "how results are printed: table or json")
	global.DurationVar(&s.timeout, "timeout", 10*time.Second, "how long one call may take")
	global.BoolVar(&s.tls.enabled, "tls", false, "speak TLS to the control plane (implied by the files below)")
	global.StringVar(&s.tls.caFile, "ca-file", "", "trust the certificates in this PEM `file` rather than the system's")
	global.StringVar(&s.tls.certFile, "cert-file", "", "this client's certificate, a PEM `file`")
	global.StringVar(&s.tls.keyFile, "key-file", "", "the key of --cert-file, a PEM `file`")
	must(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats(), cobra.ShellCompDirectiveNoFileComp)))

	root.AddCommand(
		newBroadcast(s),
		newSend(s),
		newPublish(s),
		newUsers(s),
		newTopics(s),
		newWatch(s),
		newDisconnect(s),
		newDrain(s),
		newHealth(s),
		newStats(s),
		newNodes(s),
		newToken(s),
		newTail(s),
		newBench(s),
		newVersion(s),
	)

	flags.Once(root)
	return root
}

// fromEnvironment gives every flag that the command line doesn't set the value
// that its variable has.
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
		Short: "Print the version, the commit and the Go that it was built from",
		Args:  arguments(),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(s.stdout, buildinfo.Line())
			return err
		},
	}
}

// must is for what only a mistake in this program can make fail.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
