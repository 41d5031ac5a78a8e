package main

import (
	"context"

	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newSend(s *session) *cobra.Command {
	var m messageFlags
	cmd := &cobra.Command{
		Use:   "send USER DATA",
		Short: "Send an event to all streams of a user",
		Long: `Send an event to all streams of a user. The browser receives DATA unchanged in
MessageEvent.data. If DATA is -, it is read from standard input.`,
		Example: `  pealctl send alice 'your parcel is on its way'
  pealctl send alice --idempotency-key parcel-7-sent 'your parcel is on its way'`,
		Args: arguments("USER", "DATA"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkUTF8("USER", args[0]); err != nil {
				return err
			}
			return s.publish(cmd.Context(), &m, args[1], func(ctx context.Context, c pealv1.ControlServiceClient, data string) (reply, error) {
				return c.SendToUser(ctx, &pealv1.SendToUserRequest{
					UserId: args[0], Data: data, Event: m.event, IdempotencyKey: m.idempotencyKey, ConflateKey: m.conflateKey, Ttl: m.ttl.value, Retain: m.retain,
				})
			})
		},
	}

	m.add(cmd, "individual")
	return cmd
}
