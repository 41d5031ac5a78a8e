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
		Long: `List the nodes of the cluster that the daemon is of, as they have told of
themselves; the daemon's own is marked by *. The log is the cluster's: who leads
it and who holds a replica, whether a node knows of a leader that enough replicas
follow (quorum), the last entry that the node has taken in, how many it has yet
to take in (lag), and how often it had to read again what did not come by itself
(gaps). A lost node is not heard of any more, and has not said that it ends; an
absent one has ended, and the cluster still counts it as a member.

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

	nodes.AddCommand(newRemoveNode(s))
	return nodes
}

func newRemoveNode(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Have the cluster no longer count a node that is gone for good",
		Long: `Have the cluster no longer count a node that is gone for good, such as one whose
disk is lost. Most nodes are then most of those that are left, and another node
takes over what it held of the cluster's log. Any node can be told so; the one
that is gone must not be there, and most of the cluster's members have to be.

A node that only restarts needs no removal. Once removed, one that comes back with
the directory that it had joins anew, after up to five minutes.`,
		Example: `  pealctl nodes remove box-q4x7da`,
		Args:    arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := wellFormed("NAME", args[0]); err != nil {
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

			if n.GetLeader() {
				log = "leader"
			} else if n.GetReplica() {
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
