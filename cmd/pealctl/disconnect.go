package main

import (
	"context"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newDisconnect(s *session) *cobra.Command {
	var stayAway lifetime
	cmd := &cobra.Command{
		Use:   "disconnect USER",
		Short: "End all streams of one user",
		Long: `End all streams of one user. Browsers come back by themselves, unless --for says
how long they are to stay away.`,
		Example: `  pealctl disconnect alice --for 1h`,
		Args:    arguments("USER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := wellFormed("USER", args[0]); err != nil {
				return err
			}
			return s.call(cmd.Context(), func(ctx context.Context, c pealv1.ControlServiceClient) error {
				ended, err := c.Disconnect(ctx, &pealv1.DisconnectRequest{UserId: args[0], For: stayAway.lasts})
				if err != nil {
					return err
				}
				return s.print(ended, func(t table.Writer) {
					t.AppendHeader(table.Row{"user", "streams ended"})
					t.AppendRow(table.Row{escaped(args[0]), ended.GetConnections()})
				})
			})
		},
	}

	cmd.Flags().Var(&stayAway, "for", "refuse the user's new streams for so long (default not at all)")
	return cmd
}
