package main

import (
	"context"

	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newSend(s *session) *cobra.Command {
	return s.sendCommand("USER", "individual", &cobra.Command{
		Use:   "send USER DATA",
		Short: "Send one event to every stream of one user",
		Long: `Send one event to every stream of one user. DATA is what the browser finds in
MessageEvent.data; - reads it from the standard input, to the last byte.`,
		Example: `  pealctl send alice 'your parcel is on its way'
  pealctl send alice --idempotency-key parcel-7-sent 'your parcel is on its way'`,
	}, func(ctx context.Context, c pealv1.ControlServiceClient, m *messageFlags, to, data string) (reply, error) {
		return c.SendToUser(ctx, &pealv1.SendToUserRequest{
			UserId: to, Data: data, Event: m.event, IdempotencyKey: m.idempotencyKey, ConflateKey: m.conflateKey, Ttl: m.ttl.lasts,
		})
	})
}

func newPublish(s *session) *cobra.Command {
	return s.sendCommand("TOPIC", "topic", &cobra.Command{
		Use:   "publish TOPIC DATA",
		Short: "Send one event to every stream that subscribes to a topic",
		Long: `Send one event to every stream that subscribes to a topic, by its name or by a
pattern. DATA is what the browser finds in MessageEvent.data; - reads it from
the standard input, to the last byte.`,
		Example: `  pealctl publish orders.new '{"order":7}'
  pealctl publish prices.eur --conflate-key eur --ttl 30s 1.0842`,
	}, func(ctx context.Context, c pealv1.ControlServiceClient, m *messageFlags, to, data string) (reply, error) {
		return c.Publish(ctx, &pealv1.PublishRequest{
			Topic: to, Data: data, Event: m.event, IdempotencyKey: m.idempotencyKey, ConflateKey: m.conflateKey, Ttl: m.ttl.lasts,
		})
	})
}

// sendCommand completes a command whose arguments are a receiver, which is
// called name, and data. An event without a type has the type otherwise.
func (s *session) sendCommand(name, otherwise string, cmd *cobra.Command,
	send func(ctx context.Context, c pealv1.ControlServiceClient, m *messageFlags, to, data string) (reply, error),
) *cobra.Command {
	var m messageFlags
	m.add(cmd, otherwise)
	cmd.Args = arguments(name, "DATA")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := wellFormed(name, args[0]); err != nil {
			return err
		}
		return s.publish(cmd.Context(), &m, args[1], func(ctx context.Context, c pealv1.ControlServiceClient, data string) (reply, error) {
			return send(ctx, c, &m, args[0], data)
		})
	}
	return cmd
}
