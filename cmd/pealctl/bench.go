package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/status"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/bench"
)

func newBench(s *session) *cobra.Command {
	var (
		cfg       bench.Config
		userToken string
		streamCA  string
		svg       string
		chaos     bool
		missed    int
		trial     = bench.ChaosConfig{Topics: 50, Broadcasts: 0.01, ToTopics: 0.19}
	)

	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Open many streams, publish, and check that every client gets every message",
		Long: `Open many streams, publish messages through the control plane, and check on
every stream that each message came exactly once, in order and whole. The
figures are the connect times, the delivery latencies and the deliveries a
second; the status is 1 if any message was lost, doubled, damaged, out of order
or somebody else's, or a stream ended.

The messages are broadcasts, or with --users go to one user after the other.
Events of other publishers are counted and are no fault.

With --output json, times are in milliseconds, unless their names end in Seconds
or _ns.`,
		Example: `  pealctl bench --clients 5000 --rate 10 --duration 10s
  pealctl bench --clients 2000 --burst 300 --slow 50
  pealctl bench --clients 1000 --users 500 --rate 200
  pealctl bench --chaos --clients 2000 --rate 1000 --duration 60s
  pealctl bench --resume 20 --clients 10000 --users 500`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if userToken != "" {
				cfg.Header = http.Header{"Authorization": {"Bearer " + userToken}}
			}
			trust := s.tls
			if streamCA != "" {
				trust.caFile, trust.caFlag = streamCA, "--stream-ca-file"
			}
			var err error
			switch {
			case chaos:
				trial.URL, trial.Clients, trial.Rate, trial.Duration, trial.Patience = cfg.URL, cfg.Clients, cfg.Rate, cfg.Duration, cfg.Patience
				err = s.benchChaos(cmd.Context(), trial)
			case missed > 0:
				err = s.benchResume(cmd.Context(), bench.MassResumeConfig{URL: cfg.URL, Clients: cfg.Clients, Users: max(cfg.Users, 1), Missed: missed})
			default:
				err = s.bench(cmd.Context(), cfg, trust, svg)
			}
			return withStreams(cmd.Flags(), err)
		},
	}

	flags := cmd.Flags()
	flags.StringVar(&cfg.URL, "url", defaultStream, "the `address` of the streams")
	flags.StringVar(&streamCA, "stream-ca-file", "", "trust the certificates in this PEM `file` for an https --url; the control plane doesn't use TLS for it (default: --ca-file)")
	flags.IntVar(&cfg.Clients, "clients", 1000, "streams that read and are checked")
	flags.IntVar(&cfg.Slow, "slow", 0, "streams besides that never read")
	flags.IntVar(&cfg.Users, "users", 0, "users whom the streams belong to by turns; messages go to one of them by turns (default: broadcasts)")
	flags.StringVar(&userToken, "user-token", "", "subscriber `token` that every stream sends")
	flags.Float64Var(&cfg.Rate, "rate", 10, "messages a second")
	flags.DurationVar(&cfg.Duration, "duration", 10*time.Second, "for how long messages are published")
	flags.IntVar(&cfg.Burst, "burst", 0, "publish so many messages as fast as they are taken, instead of --rate for --duration")
	flags.IntVar(&cfg.Size, "size", 100, fmt.Sprintf("`bytes` of a message's data, at least %d", bench.MinSize))
	flags.StringVar(&svg, "plot", "", "write a plot of the latencies to this SVG `file`")
	flags.IntVar(&cfg.AtOnce, "at-once", 500, "streams that are being opened at a time")
	flags.IntVar(&cfg.Sources, "sources", 0, "addresses of 127.0.0.0/8 that the streams come from (default: as many as their ports need)")
	flags.DurationVar(&cfg.Patience, "patience", 10*time.Second, "how long nothing may arrive until what is missing is lost")
	flags.IntVar(&cfg.Readers, "readers", 0, "goroutines that read (default: one for four cores)")
	flags.BoolVar(&cfg.Portable, "portable", false, "a goroutine and a connection of net/http for each stream, as for https and on other systems than Linux")
	flags.BoolVar(&chaos, "chaos", false, "cut connections at random while messages of all audiences are published, let them resume, and check that nothing is lost")
	flags.DurationVar(&trial.Life, "life", 2*time.Second, "with --chaos: how long a connection lives on average")
	flags.IntVar(&missed, "resume", 0, "instead: close all streams, send each of --users so many messages, and have all streams come back at once")
	cmd.MarkFlagsMutuallyExclusive("chaos", "resume")

	for _, other := range []string{"burst", "size", "slow", "plot", "user-token", "stream-ca-file", "at-once", "sources", "readers", "portable"} {
		cmd.MarkFlagsMutuallyExclusive("chaos", other)
		cmd.MarkFlagsMutuallyExclusive("resume", other)
	}

	cmd.MarkFlagsMutuallyExclusive("chaos", "users") // each client is a user of its own
	for _, other := range []string{"rate", "duration", "patience"} {
		cmd.MarkFlagsMutuallyExclusive("resume", other)
	}

	cmd.MarkFlagsMutuallyExclusive("users", "user-token") // the users get tokens of their own
	return cmd
}

// withStreams adds to err, if --addr is given and --url isn't, where the streams
// were: they may be another daemon's. An error of a call names the daemon itself.
func withStreams(flags *pflag.FlagSet, err error) error {
	if err == nil || !flags.Changed("addr") || flags.Changed("url") {
		return err
	}
	if _, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok {
		return err
	}
	return fmt.Errorf("%w; --url is not given, so the streams are those at %s", err, defaultStream)
}

func (s *session) bench(ctx context.Context, cfg bench.Config, trust tlsFlags, svg string) (err error) {
	plot, err := openPlot(svg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plot.close()) }()

	if cfg.TLS, err = trust.config(); err != nil {
		return err
	}

	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer conn.Close()

	stopBars := func() {}
	if terminal(s.stderr) != nil {
		b := startBars(s.stderr)
		cfg.Progress, stopBars = b.show, b.stop
	}

	result, err := bench.Measure(ctx, cfg, publisher{client: pealv1.NewControlServiceClient(conn), timeout: s.timeout})
	stopBars()

	if err != nil {
		return err
	}
	if err := s.printResult(result); err != nil {
		return err
	}
	if err := plot.draw(result); err != nil {
		return err
	}
	if faults := result.Faults(); faults != "" {
		return errors.New(faults)
	}

	return nil
}

func (s *session) printResult(r *bench.Result) error {
	if s.output.json {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the result: %w", err)
		}
		_, err = fmt.Fprintf(s.stdout, "%s\n", text)
		return err
	}
	_, err := fmt.Fprintln(s.stdout, benchTable(r))
	return err
}

// publisher publishes through the control plane.
type publisher struct {
	client  pealv1.ControlServiceClient
	timeout time.Duration
}

// Publish implements [bench.Publisher].
func (p publisher) Publish(ctx context.Context, user, data string) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	var err error
	if user == "" {
		_, err = p.client.Broadcast(ctx, &pealv1.BroadcastRequest{Data: data})
	} else {
		_, err = p.client.SendToUser(ctx, &pealv1.SendToUserRequest{UserId: user, Data: data})
	}
	return err
}

// Token implements [bench.Publisher].
func (p publisher) Token(ctx context.Context, user string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	reply, err := p.client.CreateToken(ctx, &pealv1.CreateTokenRequest{UserId: user})
	return reply.GetToken(), err
}
