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
		request pealv1.ListTopicsRequest
		all     bool
	)

	cmd := &cobra.Command{
		Use:   "topics",
		Short: "List topics and patterns that have subscribers",
		Long: `List the topics and patterns that have subscribers, sorted by name: one page, or
with --all every page.`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkUTF8("--prefix", request.GetPrefix()); err != nil {
				return err
			}
			return s.call(cmd.Context(), func(ctx context.Context, c pealv1.ControlServiceClient) error {
				return s.listTopics(ctx, c, &request, all)
			})
		},
	}

	cmd.Flags().StringVar(&request.Prefix, "prefix", "", "list only topics and patterns that start with this `text`")
	cmd.Flags().BoolVar(&all, "all", false, "list every page")
	cmd.Flags().Int32Var(&request.PageSize, "page-size", 0, "topics per page (default 100, maximum 1000)")
	cmd.Flags().StringVar(&request.PageToken, "page-token", "", "start at the page with this `token`, as printed with the previous page")
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

func (s *session) listTopics(ctx context.Context, c pealv1.ControlServiceClient, request *pealv1.ListTopicsRequest, all bool) error {
	listed, err := c.ListTopics(ctx, request)
	for err == nil && all && listed.GetNextPageToken() != "" {
		request.PageToken = listed.GetNextPageToken()
		var page *pealv1.ListTopicsResponse
		if page, err = c.ListTopics(ctx, request); err == nil {
			listed.Topics = append(listed.Topics, page.GetTopics()...)
			listed.NextPageToken = page.GetNextPageToken()
			listed.MissingNodes = mergeNames(listed.GetMissingNodes(), page.GetMissingNodes())
		}
	}

	if err != nil {
		return err
	}

	err = s.print(listed, func(t table.Writer) {
		t.AppendHeader(table.Row{"topic", "subscribers"})
		for _, topic := range listed.GetTopics() {
			t.AppendRow(table.Row{topic.GetTopic(), topic.GetSubscribers()})
		}
	})
	if next := listed.GetNextPageToken(); err == nil && next != "" && !s.output.json {
		fmt.Fprintf(s.stderr, morePages, next)
	}

	return err
}
