package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newStats(s *session) *cobra.Command {
	watch := false
	cmd := &cobra.Command{
		Use:   "stats [--watch [INTERVAL]]",
		Short: "Show what the daemon holds and has done",
		Long: `Show what the daemon holds and has done since it started: totals and a row for
each shard. With --watch the figures are drawn again in place every INTERVAL
(default 1s), as rates a second of what came since: events and bytes delivered,
events dropped, streams opened and ended; and the latency is that of the events
that came since. With --output json as well, each time is a line.

The latency of an event is the time from its acceptance until it was handed to
a stream's socket: half of them took no longer than p50, 99 of 100 no longer
than p99.`,
		Example: `  pealctl stats
  pealctl stats --watch 5s`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || (len(args) == 1 && !watch) {
				return fmt.Errorf("stats takes no argument but the interval of --watch, given %q", args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if !watch {
				return s.call(cmd.Context(), s.printStats)
			}
			interval := time.Second
			if len(args) == 1 {
				var err error
				if interval, err = time.ParseDuration(args[0]); err != nil || interval <= 0 {
					return usagef("--watch: %q is no interval like 1s or 500ms", args[0])
				}
			}
			return s.watchStats(cmd.Context(), interval)
		},
	}

	cmd.Flags().BoolVar(&watch, "watch", false, "go on, with rates a second, until interrupted")
	return cmd
}

func (s *session) printStats(ctx context.Context, c pealv1.ControlServiceClient) error {
	reply, err := c.Stats(ctx, &pealv1.StatsRequest{})
	if err != nil {
		return err
	}
	if !s.output.json {
		fmt.Fprintln(s.stdout, headline(reply, nil, time.Now(), ""))
	}
	return s.print(reply, shardRows(reply))
}

// watchStats asks again and again over one connection. A daemon that goes away
// meanwhile is waited for, since a restart is when somebody looks.
func (s *session) watchStats(ctx context.Context, interval time.Duration) error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer conn.Close()

	client := pealv1.NewControlServiceClient(conn)

	tick := time.NewTicker(interval)
	defer tick.Stop()

	var (
		screen   = newScreen(s.stdout)
		before   *pealv1.StatsResponse
		beforeAt time.Time
	)
	for {
		once, cancel := context.WithTimeout(ctx, s.timeout)
		reply, err := client.Stats(once, &pealv1.StatsRequest{})
		cancel()
		now := time.Now()

		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && s.output.json:
			err = s.printLine(reply)
		case err == nil:
			err = screen.draw(s.statsFrame(reply, before, now, now.Sub(beforeAt), screen.width()))
			before, beforeAt = reply, now
		case before != nil && passing(err):
			err = screen.draw(wrapped(now.Format(time.TimeOnly)+" "+s.describe(err), screen.width()))
		}

		if err != nil {
			return err
		}

		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func passing(err error) bool {
	c := status.Code(err)
	return c == codes.Unavailable || c == codes.DeadlineExceeded
}

func (s *session) printLine(reply *pealv1.StatsResponse) error {
	line, err := jsonOf(reply)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.stdout, "%s\n", line)
	return err
}

func (s *session) statsFrame(reply, before *pealv1.StatsResponse, now time.Time, passed time.Duration, width int) string {
	if before != nil && !before.GetStartedAt().AsTime().Equal(reply.GetStartedAt().AsTime()) {
		before = nil // a daemon that was started anew counts from zero
	}
	rate := ""
	if before != nil {
		rate = fmt.Sprintf(" (%s/s)", perSecond(reply.GetPublished()-before.GetPublished(), passed))
	}
	t := newTable()
	t.Style().Size.WidthMax = width
	rateRows(reply, before, passed)(t)
	return wrapped(headline(reply, before, now, rate), width) + "\n" + t.Render()
}

// wrapped is text in lines of a terminal, where width is not 0.
func wrapped(line string, width int) string {
	if width == 0 {
		return line
	}
	return text.WrapSoft(line, width)
}

// headline says what isn't counted by shard: the latency since before, and all
// else as of now. Rate is said of the events that were published.
func headline(reply, before *pealv1.StatsResponse, now time.Time, rate string) string {
	limit := ""
	if most := reply.GetMaxConnections(); most > 0 {
		limit = fmt.Sprintf(" of at most %d", most)
	}
	return fmt.Sprintf("peald %s, up %s: %d streams%s, %d users, %d topics, %d events published%s, latency %s, resumed %d, reset %s",
		reply.GetVersion(), now.Sub(reply.GetStartedAt().AsTime()).Round(time.Second),
		reply.GetTotal().GetConnections(), limit, reply.GetUsers(), reply.GetTopics(), reply.GetPublished(), rate,
		latencies(reply.GetLatency(), before.GetLatency()),
		reply.GetResumes().GetReplayed(), byReason(reply.GetResumes().GetResets()))
}

// shardRows shows a row for each shard and the total.
func shardRows(reply *pealv1.StatsResponse) func(table.Writer) {
	row := func(name any, is *pealv1.ShardStats) table.Row {
		return table.Row{
			name, is.GetConnections(), is.GetAuthenticatedConnections(), is.GetConnected(), byReason(is.GetDisconnected()),
			is.GetDelivered(), byReason(is.GetDropped()), byteCount(is.GetBytes()), byteCount(is.GetQueuedBytes()),
			seconds(is.GetLag().AsDuration().Seconds()),
		}
	}
	return func(t table.Writer) {
		header(t, "shard", "streams", "of users", "connected", "disconnected", "delivered", "dropped", "sent", "queued", "lag")
		for _, shard := range reply.GetShards() {
			t.AppendRow(row(shardName(shard), shard))
		}
		t.AppendRow(row("all", reply.GetTotal()))
	}
}

// shardName is what a shard's row is called, in a cluster by its node too.
func shardName(shard *pealv1.ShardStats) string {
	if shard.GetNode() == "" {
		return strconv.Itoa(int(shard.GetShard()))
	}
	return fmt.Sprintf("%s/%d", escaped(shard.GetNode()), shard.GetShard())
}

// rateRows shows what there is now, and what came since before, a second: few
// enough columns for a terminal of 80.
func rateRows(reply, before *pealv1.StatsResponse, passed time.Duration) func(table.Writer) {
	row := func(name any, is, was *pealv1.ShardStats) table.Row {
		if was == nil {
			return table.Row{name, is.GetConnections(), is.GetAuthenticatedConnections(), "-", "-", byteCount(is.GetQueuedBytes()), "-", "-", "-"}
		}
		return table.Row{
			name, is.GetConnections(), is.GetAuthenticatedConnections(),
			perSecond(is.GetDelivered()-was.GetDelivered(), passed),
			byteCount(int64(float64(is.GetBytes()-was.GetBytes()) / passed.Seconds())),
			byteCount(is.GetQueuedBytes()),
			perSecond(sum(is.GetDropped())-sum(was.GetDropped()), passed),
			perSecond(is.GetConnected()-was.GetConnected(), passed),
			perSecond(sum(is.GetDisconnected())-sum(was.GetDisconnected()), passed),
		}
	}
	return func(t table.Writer) {
		header(t, "shard", "streams", "of users", "events/s", "sent/s", "queued", "drops/s", "opens/s", "ends/s")
		// The sum comes first: on a low terminal the last rows are cut.
		t.AppendRow(row("all", reply.GetTotal(), before.GetTotal()))
		was := make(map[string]*pealv1.ShardStats)

		for _, shard := range before.GetShards() {
			was[shardName(shard)] = shard
		}

		for _, shard := range reply.GetShards() {
			t.AppendRow(row(shardName(shard), shard, was[shardName(shard)]))
		}
	}
}

// header names the columns of t and aligns them.
func header(t table.Writer, names ...any) {
	t.AppendHeader(names)
	columns := make([]table.ColumnConfig, len(names))
	for i, name := range names {
		columns[i] = table.ColumnConfig{Number: i + 1, Align: alignOf(name), AlignHeader: alignOf(name)}
	}
	t.SetColumnConfigs(columns)
}
