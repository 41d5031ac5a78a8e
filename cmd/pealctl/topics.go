package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newTopics(s *session) *cobra.Command {
	var (
		flags  pageFlags
		prefix string
	)

	cmd := &cobra.Command{
		Use:   "topics",
		Short: "List topics and patterns that have subscribers",
		Long: `List the topics and patterns that have subscribers, sorted by name: one page, or
with --all every page.`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkUTF8("--prefix", prefix); err != nil {
				return err
			}
			return s.listTopics(cmd.Context(), &flags, prefix)
		},
	}

	cmd.Flags().StringVar(&prefix, "prefix", "", "list only topics and patterns that start with this `text`")
	flags.add(cmd, "topics")
	cmd.AddCommand(newExplainTopic(s))
	return cmd
}

func newExplainTopic(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "explain TOPIC",
		Short: "Show which policy applies to a topic",
		Long: `Show which policy applies to a topic: the first entry of the daemon's setting
"topics" whose pattern matches it. What a policy leaves out, and a topic without a
policy, is as for all topics.`,
		Example: `  pealctl topics explain prices.eur`,
		Args:    arguments("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkUTF8("TOPIC", args[0]); err != nil {
				return err
			}
			return s.call(cmd.Context(), func(ctx context.Context, c pealv1.ControlServiceClient) error {
				reply, err := c.ExplainTopic(ctx, &pealv1.ExplainTopicRequest{Topic: args[0]})
				if err != nil {
					return err
				}
				return s.print(reply, func(t table.Writer) {
					t.AppendHeader(table.Row{"topic", "policy", "pattern", "max events", "max age", "slow consumer", "anonymous", "retain"})
					t.AppendRow(append(table.Row{escaped(args[0])}, policyCells(reply)...))
				})
			})
		},
	}
}

// policyCells returns the cells that describe the policy in a reply.
func policyCells(reply *pealv1.ExplainTopicResponse) table.Row {
	const left = "default"
	position, pattern, maxEvents, maxAge, slow, anonymous, retain := "none", "-", left, left, left, left, left
	if p := reply.GetPolicy(); p != nil {
		position, pattern = strconv.Itoa(int(p.GetPosition())), escaped(p.GetPattern())
		if p.GetMaxEventsValue() != nil {
			maxEvents = strconv.Itoa(int(p.GetMaxEvents()))
		}
		if d := p.GetMaxAge(); d != nil {
			maxAge = d.AsDuration().String()
		}
		slow = cmp.Or(escaped(p.GetSlowConsumer()), left)
		if p.GetAnonymousValue() != nil {
			anonymous = strconv.FormatBool(p.GetAnonymous())
		}
		if p.GetRetainValue() != nil {
			retain = strconv.FormatBool(p.GetRetain())
		}
	}
	return table.Row{fmt.Sprintf("%s of %d", position, reply.GetPolicies()), pattern, maxEvents, maxAge, slow, anonymous, retain}
}

func (s *session) listTopics(ctx context.Context, flags *pageFlags, prefix string) error {
	var reply pealv1.ListTopicsResponse
	err := s.pages(ctx, flags, func(ctx context.Context, c pealv1.ControlServiceClient) (next string, err error) {
		page, err := c.ListTopics(ctx, &pealv1.ListTopicsRequest{Prefix: prefix, PageSize: flags.size, PageToken: flags.token})
		reply.Topics = append(reply.Topics, page.GetTopics()...)
		reply.MissingNodes = mergeNames(reply.GetMissingNodes(), page.GetMissingNodes())
		reply.NextPageToken = page.GetNextPageToken()
		return page.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}

	err = s.print(&reply, func(t table.Writer) {
		t.AppendHeader(table.Row{"topic", "subscribers"})
		for _, topic := range reply.GetTopics() {
			t.AppendRow(table.Row{topic.GetTopic(), topic.GetSubscribers()})
		}
	})
	if err != nil {
		return err
	}
	s.noteNextPage(reply.GetNextPageToken())
	return nil
}
