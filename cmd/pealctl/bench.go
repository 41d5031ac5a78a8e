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

// benchFlags holds the flags of the bench command.
type benchFlags struct {
	cfg       bench.Config
	userToken string
	streamCA  string
	svg       string

	chaos    bool
	chaosCfg bench.ChaosConfig
	missed   int
}

func newBench(s *session) *cobra.Command {
	f := &benchFlags{chaosCfg: bench.ChaosConfig{Topics: 50, Broadcasts: 0.01, ToTopics: 0.19}}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure latency and throughput, and check that no message is lost",
		Long: `Open many streams, publish messages through the control plane, and check that
every stream receives each message exactly once, in order and undamaged. The
results are connect times, delivery latencies and deliveries per second. The exit
status is 1 if a message was lost, duplicated, damaged, out of order or delivered
to the wrong user, or if the server closed a stream.

With --poll the clients poll instead: each sends requests for JSON that wait for
the next messages, one request after another.

Messages are broadcasts. With --users each message is sent to one user, in
rotation. Events from other publishers are counted, but aren't errors.

With --output json times are in milliseconds, unless their name ends in Seconds
or _ns.`,
		Example: `  pealctl bench --clients 5000 --rate 10 --duration 10s
  pealctl bench --clients 2000 --burst 300 --slow 50
  pealctl bench --clients 1000 --users 500 --rate 200
  pealctl bench --chaos --clients 2000 --rate 1000 --duration 60s
  pealctl bench --resume 20 --clients 10000 --users 500
  pealctl bench --poll --clients 5000 --rate 1
  pealctl bench --url https://localhost:8443/events --http2 --streams-per-connection 10`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStreamURL(cmd.Flags(), s.runBench(cmd.Context(), f))
		},
	}
	f.add(cmd)
	return cmd
}

// add defines the flags on cmd.
func (f *benchFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.cfg.URL, "url", defaultStream, "`URL` of the streams")
	flags.StringVar(&f.streamCA, "stream-ca-file", "", "PEM `file` of CA certificates to trust for an https --url; doesn't enable TLS for the control plane (default: --ca-file)")
	flags.BoolVar(&f.cfg.HTTP2, "http2", false, "use HTTP/2: negotiated for an https --url, and with prior knowledge (h2c) for an http --url")
	flags.IntVar(&f.cfg.PerConnection, "streams-per-connection", 1, "with --http2: `number` of streams that share a connection")
	flags.BoolVar(&f.cfg.Poll, "poll", false, "use long polling instead of streams; with --http2, in the way of --portable")
	flags.IntVar(&f.cfg.Clients, "clients", 1000, "number of streams that read and are checked")
	flags.IntVar(&f.cfg.Slow, "slow", 0, "number of additional streams that never read")
	flags.IntVar(&f.cfg.Users, "users", 0, "number of users to spread the streams over; each message goes to one user, in rotation (default: broadcasts)")
	flags.StringVar(&f.userToken, "user-token", "", "subscriber `token` that every stream sends")
	flags.Float64Var(&f.cfg.Rate, "rate", 10, "messages per second")
	flags.DurationVar(&f.cfg.Duration, "duration", 10*time.Second, "how long to publish messages")
	flags.IntVar(&f.cfg.Burst, "burst", 0, "publish this many messages as fast as the daemon accepts them, instead of --rate for --duration")
	flags.IntVar(&f.cfg.Size, "size", 100, fmt.Sprintf("`bytes` of data per message, at least %d", bench.MinSize))
	flags.StringVar(&f.svg, "plot", "", "write a plot of the latencies to this SVG `file`")
	flags.IntVar(&f.cfg.AtOnce, "at-once", 0, "number of streams to open concurrently (default: 500, or 100 over TLS)")
	flags.IntVar(&f.cfg.Sources, "sources", 0, "number of source addresses in 127.0.0.0/8 for the streams (default: as many as their ports require)")
	flags.DurationVar(&f.cfg.Patience, "patience", 10*time.Second, "count missing messages as lost after this long without an arrival")
	flags.IntVar(&f.cfg.Readers, "readers", 0, "number of reading goroutines (default: one per four cores)")
	flags.BoolVar(&f.cfg.Portable, "portable", false, "use a goroutine and a net/http connection per stream; always so on systems other than Linux")
	flags.BoolVar(&f.chaos, "chaos", false, "cut connections at random while publishing to all kinds of audiences, resume the streams, and check that nothing is lost")
	flags.DurationVar(&f.chaosCfg.Life, "life", 2*time.Second, "with --chaos: mean lifetime of a connection")
	flags.IntVar(&f.missed, "resume", 0, "run a different benchmark: close all streams, send this many messages to each of --users, and reconnect all streams at the same time")

	cmd.MarkFlagsMutuallyExclusive("chaos", "resume")
	for _, other := range []string{"burst", "size", "slow", "plot", "user-token", "streams-per-connection", "at-once", "sources", "readers", "portable", "poll"} {
		cmd.MarkFlagsMutuallyExclusive("chaos", other)
		cmd.MarkFlagsMutuallyExclusive("resume", other)
	}
	cmd.MarkFlagsMutuallyExclusive("chaos", "users") // each client has its own user
	for _, other := range []string{"rate", "duration", "patience"} {
		cmd.MarkFlagsMutuallyExclusive("resume", other)
	}
	cmd.MarkFlagsMutuallyExclusive("users", "user-token") // each user has its own token
}

// runBench runs the kind of benchmark that the flags select.
func (s *session) runBench(ctx context.Context, f *benchFlags) error {
	cfg := f.cfg
	if f.userToken != "" {
		cfg.Header = http.Header{"Authorization": {"Bearer " + f.userToken}}
	}

	trust := s.tls
	if f.streamCA != "" {
		trust.caFile, trust.caFlag = f.streamCA, "--stream-ca-file"
	}

	var err error
	if cfg.TLS, err = trust.config(); err != nil {
		return err
	}

	switch {
	case f.chaos:
		chaos := f.chaosCfg
		chaos.TLS, chaos.HTTP2 = cfg.TLS, cfg.HTTP2
		chaos.URL, chaos.Clients, chaos.Rate, chaos.Duration, chaos.Patience = cfg.URL, cfg.Clients, cfg.Rate, cfg.Duration, cfg.Patience
		return s.benchChaos(ctx, chaos)
	case f.missed > 0:
		return s.benchResume(ctx, bench.MassResumeConfig{URL: cfg.URL, Clients: cfg.Clients, Users: max(cfg.Users, 1), Missed: f.missed, TLS: cfg.TLS, HTTP2: cfg.HTTP2})
	default:
		return s.bench(ctx, cfg, f.svg)
	}
}

// withStreamURL adds the URL of the streams to err if --addr is set and --url
// isn't, because the streams may then belong to another daemon. It doesn't change
// errors from calls, which already name the daemon.
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

func (s *session) bench(ctx context.Context, cfg bench.Config, svg string) (err error) {
	plot, err := openPlot(svg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plot.close()) }()

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

// publisher publishes through unary calls to the control plane.
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
