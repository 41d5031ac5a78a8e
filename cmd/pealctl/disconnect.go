package main

import (
	"context"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newDisconnect(s *session) *cobra.Command {
	var ban optionalDuration
	cmd := &cobra.Command{
		Use:   "disconnect USER",
		Short: "Close all streams of a user, and optionally ban the user",
		Long: `Close all streams of a user. Browsers reconnect by themselves. To prevent that,
ban the user for a while with --for.`,
		Example: `  pealctl disconnect alice --for 1h`,
		Args:    arguments("USER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkUTF8("USER", args[0]); err != nil {
				return err
			}
			return s.call(cmd.Context(), func(ctx context.Context, c pealv1.ControlServiceClient) error {
				reply, err := c.Disconnect(ctx, &pealv1.DisconnectRequest{UserId: args[0], For: ban.value})
				if err != nil {
					return err
				}
				return s.print(reply, func(t table.Writer) {
					t.AppendHeader(table.Row{"user", "streams closed"})
					t.AppendRow(table.Row{escaped(args[0]), reply.GetConnections()})
				})
			})
		},
	}

	cmd.Flags().Var(&ban, "for", "ban the user for this long (default: no ban)")
	return cmd
}
