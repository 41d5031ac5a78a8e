package main

import (
	"context"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newPosition(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "position",
		Short: "Show the id of the current end of the history",
		Long: `Show the id of the current end of the history. A stream that is opened with it as
last_event_id starts with everything published later.`,
		Example: `  pealctl position`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.call(cmd.Context(), func(ctx context.Context, c pealv1.ControlServiceClient) error {
				reply, err := c.GetPosition(ctx, &pealv1.GetPositionRequest{})
				if err != nil {
					return err
				}
				return s.print(reply, func(t table.Writer) {
					t.AppendHeader(table.Row{"id"})
					t.AppendRow(table.Row{escaped(reply.GetId())})
				})
			})
		},
	}
}
