package main

import (
	"context"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newSubscribers(s *session) *cobra.Command {
	var (
		flags  pageFlags
		prefix string
	)

	cmd := &cobra.Command{
		Use:   "subscribers TOPIC",
		Short: "List the users that subscribe to a topic",
		Long: `List the users whose streams subscribe to a topic, by name or by pattern, sorted by
user ID: one page, or with --all every page. The last row, (anonymous), counts the
streams without a user.

If TOPIC is a pattern, list the users whose streams subscribe to all topics that it
matches: to the same pattern, or to one that covers it.`,
		Example: `  pealctl subscribers orders.7
  pealctl watch --topic orders.7`,
		Args: arguments("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkUTF8("TOPIC", args[0]); err != nil {
				return err
			}
			if err := checkUTF8("--prefix", prefix); err != nil {
				return err
			}
			return s.subscribers(cmd.Context(), &flags, args[0], prefix)
		},
	}

	cmd.Flags().StringVar(&prefix, "prefix", "", "list only users whose ID starts with this `text`")
	flags.add(cmd, "users")
	return cmd
}

func (s *session) subscribers(ctx context.Context, flags *pageFlags, topic, prefix string) error {
	var reply pealv1.ListSubscribersResponse
	err := s.pages(ctx, flags, func(ctx context.Context, c pealv1.ControlServiceClient) (next string, err error) {
		page, err := c.ListSubscribers(ctx, &pealv1.ListSubscribersRequest{Topic: topic, Prefix: prefix, PageSize: flags.size, PageToken: flags.token})
		reply.Users = append(reply.Users, page.GetUsers()...)
		reply.MissingNodes = mergeNames(reply.GetMissingNodes(), page.GetMissingNodes())
		reply.AnonymousConnections, reply.NextPageToken = page.GetAnonymousConnections(), page.GetNextPageToken()
		return page.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}

	err = s.print(&reply, func(t table.Writer) {
		t.AppendHeader(table.Row{"user", "streams"})
		for _, u := range reply.GetUsers() {
			t.AppendRow(table.Row{u.GetUserId(), u.GetConnections()})
		}
		if n := reply.GetAnonymousConnections(); n > 0 {
			t.AppendRow(table.Row{anonymousUser, n})
		}
	})
	if err != nil {
		return err
	}
	s.noteNextPage(reply.GetNextPageToken())
	return nil
}
