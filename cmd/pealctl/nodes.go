package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newNodes(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes of the daemon's cluster",
		Long: `List the nodes of the cluster that the daemon is of, as they have told of
themselves; the daemon's own is marked by *. The log is the cluster's: who leads
it and who holds a replica, whether a node knows of a leader that enough replicas
follow (quorum), the last entry that the node has taken in, how many it has yet
to take in (lag), and how often it had to read again what did not come by itself
(gaps). A lost node is not heard of any more, and has not said that it ends.

With --output json they are the figures of the stats command, nodes among them.`,
		Example: `  pealctl nodes`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.call(cmd.Context(), func(ctx context.Context, c pealv1.ControlServiceClient) error {
				reply, err := c.Stats(ctx, &pealv1.StatsRequest{})
				if err != nil {
					return err
				}
				if len(reply.GetNodes()) == 0 {
					return errors.New("the daemon is of no cluster: its cluster.mode is off")
				}
				if err := s.print(reply, nodeRows(reply, time.Now())); err != nil || s.output.json {
					return err
				}
				for _, n := range reply.GetNodes() {
					if n.GetReason() != "" {
						fmt.Fprintf(s.stdout, "%s: %s\n", escaped(n.GetName()), escaped(n.GetReason()))
					}
				}
				return nil
			})
		},
	}
}

func nodeRows(reply *pealv1.StatsResponse, now time.Time) func(table.Writer) {
	return func(t table.Writer) {
		header(t, "node", "state", "streams", "users", "version", "up", "log", "quorum", "entry", "lag", "gaps", "heard")
		for _, n := range reply.GetNodes() {
			name, log := n.GetName(), "-"
			if n.GetAnswering() {
				name += "*"
			}
			if n.GetLeader() {
				log = "leader"
			} else if n.GetReplica() {
				log = "replica"
			}
			t.AppendRow(table.Row{
				escaped(name), stateOf(n), n.GetConnections(), n.GetUsers(), escaped(n.GetVersion()),
				now.Sub(n.GetStartedAt().AsTime()).Round(time.Second), log, yesOrNo(n.GetQuorum()),
				n.GetAppliedEntry(), n.GetLagEntries(), n.GetGapFills(),
				max(now.Sub(n.GetLastHeard().AsTime()), 0).Round(100*time.Millisecond).String() + " ago",
			})
		}
	}
}

func stateOf(n *pealv1.Node) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(n.GetState().String(), "NODE_STATE_"), "_", " "))
}

func yesOrNo(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

// warnOfMissing says on stderr whose streams a reply knows nothing of.
func (s *session) warnOfMissing(reply any) {
	partial, ok := reply.(interface{ GetMissingNodes() []string })
	if !ok || len(partial.GetMissingNodes()) == 0 {
		return
	}
	names := make([]string, 0, len(partial.GetMissingNodes()))
	for _, name := range partial.GetMissingNodes() {
		names = append(names, escaped(name))
	}
	fmt.Fprintf(s.stderr, "Without what nodes hold that have not answered in time: %s.\n", strings.Join(names, ", "))
}

// together are the names in either list, in order.
func together(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
