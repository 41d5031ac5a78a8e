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
	nodes := &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes of the daemon's cluster",
		Long: `List the nodes of the daemon's cluster and what each one last reported. The node
that replied is marked with *.

  log      whether the node leads the event log or holds a replica of it
  quorum   whether the node sees a leader that a quorum of replicas follows
  entry    the last log entry that the node has applied
  lag      how many log entries the node still has to apply
  gaps     how often the node had to read missing entries again
  heard    the time since the node's last report

A lost node stopped reporting without announcing a shutdown. An absent node has
shut down, but still counts as a member of the cluster.

With --output json the output is that of the stats command, which includes the
nodes.`,
		Example: `  pealctl nodes`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.call(cmd.Context(), func(ctx context.Context, c pealv1.ControlServiceClient) error {
				reply, err := c.Stats(ctx, &pealv1.StatsRequest{})
				if err != nil {
					return err
				}
				if len(reply.GetNodes()) == 0 {
					return errors.New("clustering is disabled: cluster.mode is off")
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

	nodes.AddCommand(newRemoveNode(s))
	return nodes
}

func newRemoveNode(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a permanently lost node from the cluster",
		Long: `Remove a permanently lost node from the cluster, such as one whose disk failed.
The quorum is then counted among the remaining members, and another node takes
over the lost node's replica of the event log.

You can send the command to any node. The node to remove must not be running, and
a majority of the members must be.

Don't remove a node that is only restarting. A removed node that starts again with its
old directory rejoins the cluster after up to five minutes.`,
		Example: `  pealctl nodes remove box-q4x7da`,
		Args:    arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkUTF8("NAME", args[0]); err != nil {
				return err
			}
			return s.call(cmd.Context(), func(ctx context.Context, c pealv1.ControlServiceClient) error {
				reply, err := c.RemoveNode(ctx, &pealv1.RemoveNodeRequest{Name: args[0]})
				if err != nil {
					return err
				}
				return s.print(reply, func(t table.Writer) {
					t.AppendHeader(table.Row{"members left"})
					for _, name := range reply.GetMembers() {
						t.AppendRow(table.Row{escaped(name)})
					}
				})
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

			switch {
			case n.GetLeader():
				log = "leader"
			case n.GetReplica():
				log = "replica"
			}

			if n.GetLastHeard() == nil {
				t.AppendRow(table.Row{escaped(name), stateOf(n), "-", "-", "-", "-", "-", "-", "-", "-", "-", "-"})
				continue
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

// warnMissingNodes prints on standard error which nodes a reply doesn't include.
func (s *session) warnMissingNodes(reply any) {
	partial, ok := reply.(interface{ GetMissingNodes() []string })
	if !ok || len(partial.GetMissingNodes()) == 0 {
		return
	}
	names := make([]string, 0, len(partial.GetMissingNodes()))
	for _, name := range partial.GetMissingNodes() {
		names = append(names, escaped(name))
	}
	fmt.Fprintf(s.stderr, "Incomplete result: no reply in time from nodes %s.\n", strings.Join(names, ", "))
}

// mergeNames returns the sorted union of two lists.
func mergeNames(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
