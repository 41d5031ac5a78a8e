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
		chaosCfg  = bench.ChaosConfig{Topics: 50, Broadcasts: 0.01, ToTopics: 0.19}
	)

	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure latency and throughput, and check that no message is lost",
		Long: `Open many streams, publish messages through the control plane, and check that
every stream receives each message exactly once, in order and undamaged. The
results are connect times, delivery latencies and deliveries per second. The exit
status is 1 if a message was lost, duplicated, damaged, out of order or delivered
to the wrong user, or if the server closed a stream.

Messages are broadcasts. With --users each message is sent to one user, in
rotation. Events of other publishers are counted, but aren't errors.

With --output json times are in milliseconds, unless their name ends in Seconds
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
				chaosCfg.URL, chaosCfg.Clients, chaosCfg.Rate, chaosCfg.Duration, chaosCfg.Patience = cfg.URL, cfg.Clients, cfg.Rate, cfg.Duration, cfg.Patience
				err = s.benchChaos(cmd.Context(), chaosCfg)
			case missed > 0:
				err = s.benchResume(cmd.Context(), bench.MassResumeConfig{URL: cfg.URL, Clients: cfg.Clients, Users: max(cfg.Users, 1), Missed: missed})
			default:
				err = s.bench(cmd.Context(), cfg, trust, svg)
			}
			return withStreamURL(cmd.Flags(), err)
		},
	}

	flags := cmd.Flags()
	flags.StringVar(&cfg.URL, "url", defaultStream, "`URL` of the streams")
	flags.StringVar(&streamCA, "stream-ca-file", "", "PEM `file` of CA certificates to trust for an https --url; doesn't enable TLS for the control plane (default: --ca-file)")
	flags.IntVar(&cfg.Clients, "clients", 1000, "number of streams that read and are checked")
	flags.IntVar(&cfg.Slow, "slow", 0, "number of additional streams that never read")
	flags.IntVar(&cfg.Users, "users", 0, "number of users to spread the streams over; each message goes to one user, in rotation (default: broadcasts)")
	flags.StringVar(&userToken, "user-token", "", "subscriber `token` that every stream sends")
	flags.Float64Var(&cfg.Rate, "rate", 10, "messages per second")
	flags.DurationVar(&cfg.Duration, "duration", 10*time.Second, "how long to publish messages")
	flags.IntVar(&cfg.Burst, "burst", 0, "publish this many messages as fast as the daemon accepts them, instead of --rate for --duration")
	flags.IntVar(&cfg.Size, "size", 100, fmt.Sprintf("`bytes` of data per message, at least %d", bench.MinSize))
	flags.StringVar(&svg, "plot", "", "write a plot of the latencies to this SVG `file`")
	flags.IntVar(&cfg.AtOnce, "at-once", 500, "number of streams to open concurrently")
	flags.IntVar(&cfg.Sources, "sources", 0, "number of source addresses in 127.0.0.0/8 for the streams (default: as many as their ports require)")
	flags.DurationVar(&cfg.Patience, "patience", 10*time.Second, "count missing messages as lost after this long without an arrival")
	flags.IntVar(&cfg.Readers, "readers", 0, "number of reading goroutines (default: one per four cores)")
	flags.BoolVar(&cfg.Portable, "portable", false, "use a goroutine and a net/http connection per stream; always so for https and on systems other than Linux")
	flags.BoolVar(&chaos, "chaos", false, "cut connections at random while publishing to all kinds of audiences, resume the streams, and check that nothing is lost")
	flags.DurationVar(&chaosCfg.Life, "life", 2*time.Second, "with --chaos: mean lifetime of a connection")
	flags.IntVar(&missed, "resume", 0, "instead: close all streams, send this many messages to each of --users, and reconnect all streams at once")
	cmd.MarkFlagsMutuallyExclusive("chaos", "resume")

	for _, other := range []string{"burst", "size", "slow", "plot", "user-token", "stream-ca-file", "at-once", "sources", "readers", "portable"} {
		cmd.MarkFlagsMutuallyExclusive("chaos", other)
		cmd.MarkFlagsMutuallyExclusive("resume", other)
	}

	cmd.MarkFlagsMutuallyExclusive("chaos", "users") // each client has its own user
	for _, other := range []string{"rate", "duration", "patience"} {
		cmd.MarkFlagsMutuallyExclusive("resume", other)
	}

	cmd.MarkFlagsMutuallyExclusive("users", "user-token") // each user has its own token
	return cmd
}

// withStreamURL adds the URL of the streams to err if --addr is set and --url
// isn't, because the streams may then belong to another daemon. It leaves errors
// of calls alone, which already name the daemon.
func withStreamURL(flags *pflag.FlagSet, err error) error {
	if err == nil || !flags.Changed("addr") || flags.Changed("url") {
		return err
	}
	if _, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok {
		return err
	}
	return fmt.Errorf("%w; --url is not set, so the streams are those at %s", err, defaultStream)
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

// publisher publishes through unary calls of the control plane.
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
