package main

import (
	"context"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newUsers(s *session) *cobra.Command {
	var (
		flags  pageFlags
		prefix string
	)

	cmd := &cobra.Command{
		Use:   "users",
		Short: "List connected users",
		Long: `List the users that have at least one open stream, sorted by user ID: one page,
or with --all every page.`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkUTF8("--prefix", prefix); err != nil {
				return err
			}
			var reply pealv1.ListUsersResponse
			err := s.pages(cmd.Context(), &flags, func(ctx context.Context, c pealv1.ControlServiceClient) (next string, err error) {
				page, err := c.ListUsers(ctx, &pealv1.ListUsersRequest{Prefix: prefix, PageSize: flags.size, PageToken: flags.token})
				reply.Users = append(reply.Users, page.GetUsers()...)
				reply.MissingNodes = mergeNames(reply.GetMissingNodes(), page.GetMissingNodes())
				reply.NextPageToken = page.GetNextPageToken()
				return page.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			if err := s.print(&reply, userRows(&reply, time.Now())); err != nil {
				return err
			}
			s.noteNextPage(reply.GetNextPageToken())
			return nil
		},
	}

	cmd.Flags().StringVar(&prefix, "prefix", "", "list only users whose ID starts with this `text`")
	flags.add(cmd, "users")
	return cmd
}

func userRows(reply *pealv1.ListUsersResponse, now time.Time) func(table.Writer) {
	return func(t table.Writer) {
		t.AppendHeader(table.Row{"user", "streams", "since", "for"})
		for _, u := range reply.GetUsers() {
			since := u.GetConnectedSince().AsTime()
			t.AppendRow(table.Row{u.GetUserId(), u.GetConnections(), since.Local().Format(time.DateTime), now.Sub(since).Round(time.Second)})
		}
	}
}
