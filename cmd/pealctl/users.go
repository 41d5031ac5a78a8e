package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newUsers(s *session) *cobra.Command {
	var (
		request pealv1.ListUsersRequest
		all     bool
	)

	cmd := &cobra.Command{
		Use:   "users",
		Short: "List connected users",
		Long: `List the users that have at least one open stream, sorted by user ID: one page,
or with --all every page.`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkUTF8("--prefix", request.GetPrefix()); err != nil {
				return err
			}
			var reply pealv1.ListUsersResponse
			for more := true; more; more = all && reply.GetNextPageToken() != "" {
				err := s.call(cmd.Context(), func(ctx context.Context, c pealv1.ControlServiceClient) error {
					page, err := c.ListUsers(ctx, &request)
					if err != nil {
						return err
					}
					reply.Users = append(reply.Users, page.GetUsers()...)
					reply.NextPageToken = page.GetNextPageToken()
					reply.MissingNodes = mergeNames(reply.GetMissingNodes(), page.GetMissingNodes())
					request.PageToken = page.GetNextPageToken()
					return nil
				})
				if err != nil {
					return err
				}
			}
			if err := s.print(&reply, userRows(&reply, time.Now())); err != nil {
				return err
			}
			if next := reply.GetNextPageToken(); next != "" && !s.output.json {
				fmt.Fprintf(s.stderr, morePages, next)
			}
			return nil
		},
	}

	cmd.Flags().StringVar(&request.Prefix, "prefix", "", "list only users whose ID starts with this `text`")
	cmd.Flags().BoolVar(&all, "all", false, "list every page")
	cmd.Flags().Int32Var(&request.PageSize, "page-size", 0, "users per page (default 100, maximum 1000)")
	cmd.Flags().StringVar(&request.PageToken, "page-token", "", "start at the page with this `token`, as printed with the previous page")
	return cmd
}

// morePages is printed after a page that isn't the last one.
const morePages = "More pages follow. Use --all to list them, or --page-token %q for the next page.\n"

func userRows(reply *pealv1.ListUsersResponse, now time.Time) func(table.Writer) {
	return func(t table.Writer) {
		t.AppendHeader(table.Row{"user", "streams", "since", "for"})
		for _, u := range reply.GetUsers() {
			since := u.GetConnectedSince().AsTime()
			t.AppendRow(table.Row{u.GetUserId(), u.GetConnections(), since.Local().Format(time.DateTime), now.Sub(since).Round(time.Second)})
		}
	}
}
