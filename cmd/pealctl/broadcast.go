package main

import (
	"context"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newBroadcast(s *session) *cobra.Command {
	var event string
	cmd := &cobra.Command{
		Use:   "broadcast DATA",
		Short: "Send one event to every open stream",
		Long: `Send one event to every open stream, authenticated or not. DATA is what the
browser finds in MessageEvent.data; - reads it from the standard input, to the
last byte.`,
		Example: `  pealctl broadcast 'the shop opens'
  date | pealctl broadcast --event clock -`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := s.data(args[0])
			if err != nil {
				return err
			}
			return s.call(cmd.Context(), func(ctx context.Context, c pealv1.ControlServiceClient) error {
				reply, err := c.Broadcast(ctx, &pealv1.BroadcastRequest{Data: data, Event: event})
				if err != nil {
					return err
				}
				return s.print(reply, receipt(reply))
			})
		},
	}
	eventFlag(cmd, &event, "broadcast")
	return cmd
}

// receipt shows what became of a message.
func receipt(reply interface {
	GetId() string
	GetRecipients() int32
}) func(table.Writer) {
	return func(t table.Writer) {
		t.AppendHeader(table.Row{"id", "recipients"})
		t.AppendRow(table.Row{reply.GetId(), reply.GetRecipients()})
	}
}
