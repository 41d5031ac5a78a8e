package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
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
		Short: "Show daemon stats",
		Long: `Show the stats of the daemon since it started: totals and a row for each shard.

With --watch the table is redrawn every INTERVAL (default 1s) and shows rates per
second: events and bytes delivered, events dropped, streams opened and closed.
In that case the latency covers the events delivered since the last interval. With
--output json each interval prints one line of JSON.

The latency of an event is the time from its acceptance until it is written to a
stream's socket. Half of the events took at most p50, and 99% at most p99.`,
		Example: `  pealctl stats
  pealctl stats --watch 5s`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || (len(args) == 1 && !watch) {
				return fmt.Errorf("unexpected arguments %q; want none, or one interval with --watch", args)
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
					return usagef("--watch: invalid interval %q; want a positive duration, such as 1s or 500ms", args[0])
				}
			}
			return s.watchStats(cmd.Context(), interval)
		},
	}

	cmd.Flags().BoolVar(&watch, "watch", false, "keep showing rates per second until interrupted")
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

// watchStats polls the stats over one connection. It keeps polling while the
// daemon is unreachable, because people watch the stats during restarts.
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
		case before != nil && isTransient(err):
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

// isTransient reports whether a restart of the daemon can cause err.
func isTransient(err error) bool {
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

// statsFrame formats reply with rates since before, the reply received elapsed
// earlier. For the first frame, before is nil.
func (s *session) statsFrame(reply, before *pealv1.StatsResponse, now time.Time, elapsed time.Duration, width int) string {
	if before != nil && !before.GetStartedAt().AsTime().Equal(reply.GetStartedAt().AsTime()) {
		before = nil // a restarted daemon counts from zero
	}
	rate := ""
	if before != nil {
		rate = fmt.Sprintf(" (%s/s)", perSecond(reply.GetPublished()-before.GetPublished(), elapsed))
	}
	t := newTable()
	t.Style().Size.WidthMax = width
	rateRows(reply, before, elapsed)(t)
	return wrapped(headline(reply, before, now, rate), width) + "\n" + t.Render()
}

// wrapped wraps line at width; a width of 0 means no limit.
func wrapped(line string, width int) string {
	if width == 0 {
		return line
	}
	return text.WrapSoft(line, width)
}

// headline formats the stats that aren't counted by shard: the latency since
// before, and everything else as of now. Rate follows the published events.
func headline(reply, before *pealv1.StatsResponse, now time.Time, rate string) string {
	limit := ""
	if n := reply.GetMaxConnections(); n > 0 {
		limit = fmt.Sprintf(" of at most %d", n)
	}
	return fmt.Sprintf("peald %s, up %s: %d streams%s, %d users, %d topics, %d events published%s, latency %s, %s",
		reply.GetVersion(), now.Sub(reply.GetStartedAt().AsTime()).Round(time.Second),
		reply.GetTotal().GetConnections(), limit, reply.GetUsers(), reply.GetTopics(), reply.GetPublished(), rate,
		latencies(reply.GetLatency(), before.GetLatency()),
		starts(reply)+retainedCount(reply.GetRetained())+pollCount(reply.GetPolls())+readCount(reply.GetReads()))
}

// pollCount formats the numbers of polls, if there were any. Those that wait are also
// among the streams.
func pollCount(p *pealv1.Polls) string {
	if p.GetWaiting() == 0 && sum(p.GetAnswered()) == 0 && p.GetAbandoned() == 0 {
		return ""
	}
	return fmt.Sprintf(", polls: %d waiting, answered %s, %d abandoned", p.GetWaiting(), byReason(p.GetAnswered()), p.GetAbandoned())
}

// readCount formats the number of pages read, if there are any.
func readCount(r *pealv1.Reads) string {
	n := r.GetBroadcast() + r.GetUser() + r.GetTopic()
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d pages read", n)
}

// retainedCount formats the number of retained values, if there are any.
func retainedCount(r *pealv1.Retained) string {
	if r.GetEvents() == 0 {
		return ""
	}
	return fmt.Sprintf(", %d retained (%s)", r.GetEvents(), byteCount(r.GetBytes()))
}

// starts formats how many streams started in the past. It omits the ways that none
// used, except for resuming.
func starts(reply *pealv1.StatsResponse) string {
	var all []string
	for _, row := range []struct {
		name   string
		counts *pealv1.Resumes
	}{{"resumed", reply.GetResumes()}, {"since", reply.GetSince()}, {"rewound", reply.GetRewinds()}, {"began with values", reply.GetRetained().GetStarts()}} {
		if n, resets := row.counts.GetReplayed(), row.counts.GetResets(); row.name == "resumed" || n+sum(resets) > 0 {
			all = append(all, fmt.Sprintf("%s %d, reset %s", row.name, n, byReason(resets)))
		}
	}
	return strings.Join(all, ", ")
}

// shardRows appends a row for each shard and one for the total.
func shardRows(reply *pealv1.StatsResponse) func(table.Writer) {
	row := func(name any, s *pealv1.ShardStats) table.Row {
		return table.Row{
			name, s.GetConnections(), s.GetAuthenticatedConnections(), s.GetConnected(), byReason(s.GetDisconnected()),
			s.GetDelivered(), byReason(s.GetDropped()), byteCount(s.GetBytes()), byteCount(s.GetQueuedBytes()),
			seconds(s.GetLag().AsDuration().Seconds()),
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

// shardName returns the name of a shard's row. In a cluster, it includes the
// node.
func shardName(shard *pealv1.ShardStats) string {
	if shard.GetNode() == "" {
		return strconv.Itoa(int(shard.GetShard()))
	}
	return fmt.Sprintf("%s/%d", escaped(shard.GetNode()), shard.GetShard())
}

// rateRows appends rows with current values and with rates per second since
// before. The columns fit a terminal 80 columns wide.
func rateRows(reply, before *pealv1.StatsResponse, elapsed time.Duration) func(table.Writer) {
	row := func(name any, now, then *pealv1.ShardStats) table.Row {
		if then == nil {
			return table.Row{name, now.GetConnections(), now.GetAuthenticatedConnections(), "-", "-", byteCount(now.GetQueuedBytes()), "-", "-", "-"}
		}
		return table.Row{
			name, now.GetConnections(), now.GetAuthenticatedConnections(),
			perSecond(now.GetDelivered()-then.GetDelivered(), elapsed),
			byteCount(int64(float64(now.GetBytes()-then.GetBytes()) / elapsed.Seconds())),
			byteCount(now.GetQueuedBytes()),
			perSecond(sum(now.GetDropped())-sum(then.GetDropped()), elapsed),
			perSecond(now.GetConnected()-then.GetConnected(), elapsed),
			perSecond(sum(now.GetDisconnected())-sum(then.GetDisconnected()), elapsed),
		}
	}
	return func(t table.Writer) {
		header(t, "shard", "streams", "of users", "events/s", "sent/s", "queued", "drops/s", "opens/s", "closes/s")
		// The total comes first, because a terminal with few lines cuts off the last
		// rows.
		t.AppendRow(row("all", reply.GetTotal(), before.GetTotal()))
		then := make(map[string]*pealv1.ShardStats)

		for _, shard := range before.GetShards() {
			then[shardName(shard)] = shard
		}

		for _, shard := range reply.GetShards() {
			t.AppendRow(row(shardName(shard), shard, then[shardName(shard)]))
		}
	}
}

// header names the columns of t and aligns them.
func header(t table.Writer, names ...any) {
	t.AppendHeader(names)
	columns := make([]table.ColumnConfig, len(names))
	for i, name := range names {
		columns[i] = table.ColumnConfig{Number: i + 1, Align: alignment(name), AlignHeader: alignment(name)}
	}
	t.SetColumnConfigs(columns)
}
