package main

import (
	"context"

	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newSend(s *session) *cobra.Command {
	var event string
	cmd := &cobra.Command{
		Use:   "send USER DATA",
		Short: "Send one event to every stream of one user",
		Long: `Send one event to every stream of one user. DATA is what the browser finds in
MessageEvent.data; - reads it from the standard input, to the last byte.`,
		Example: `  pealctl send alice 'your parcel is on its way'`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := wellFormed("USER", args[0]); err != nil {
				return err
			}
			data, err := s.data(args[1])
			if err != nil {
				return err
			}
			return s.call(cmd.Context(), func(ctx context.Context, c pealv1.ControlServiceClient) error {
				reply, err := c.SendToUser(ctx, &pealv1.SendToUserRequest{UserId: args[0], Data: data, Event: event})
				if err != nil {
					return err
				}
				return s.print(reply, receipt(reply))
			})
		},
	}
	eventFlag(cmd, &event, "individual")
	return cmd
}
