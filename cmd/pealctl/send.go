package main

import (
	"context"

	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newSend(s *session) *cobra.Command {
	return s.sendCommand("USER", "individual", &cobra.Command{
		Use:   "send USER DATA",
		Short: "Send an event to all streams of a user",
		Long: `Send an event to all streams of a user. The browser receives DATA unchanged in
MessageEvent.data. If DATA is -, it is read from standard input.`,
		Example: `  pealctl send alice 'your parcel is on its way'
  pealctl send alice --idempotency-key parcel-7-sent 'your parcel is on its way'`,
	}, func(ctx context.Context, c pealv1.ControlServiceClient, m *messageFlags, to, data string) (reply, error) {
		return c.SendToUser(ctx, &pealv1.SendToUserRequest{
			UserId: to, Data: data, Event: m.event, IdempotencyKey: m.idempotencyKey, ConflateKey: m.conflateKey, Ttl: m.ttl.value, Retain: m.retain,
		})
	})
}

func newPublish(s *session) *cobra.Command {
	var final bool
	cmd := s.sendCommand("TOPIC", "topic", &cobra.Command{
		Use:   "publish TOPIC DATA",
		Short: "Send an event to all subscribers of a topic",
		Long: `Send an event to all streams that subscribe to a topic, by name or by a matching
pattern. The browser receives DATA unchanged in MessageEvent.data. If DATA is -,
it is read from standard input.`,
		Example: `  pealctl publish orders.new '{"order":7}'
  pealctl publish prices.eur --retain --ttl 30s 1.0842
  pealctl publish answers.42 --final 'That is all.'`,
	}, func(ctx context.Context, c pealv1.ControlServiceClient, m *messageFlags, to, data string) (reply, error) {
		return c.Publish(ctx, &pealv1.PublishRequest{
			Topic: to, Data: data, Event: m.event, IdempotencyKey: m.idempotencyKey, ConflateKey: m.conflateKey, Ttl: m.ttl.value,
			Retain: m.retain, Final: final,
		})
	})
	cmd.Flags().BoolVar(&final, "final", false, "end the topic after the event, until another one is published")
	return cmd
}

// sendCommand completes a command that takes a recipient, named recipient in the
// usage, and DATA. An event without a type gets defaultType.
func (s *session) sendCommand(recipient, defaultType string, cmd *cobra.Command,
	send func(ctx context.Context, c pealv1.ControlServiceClient, m *messageFlags, to, data string) (reply, error),
) *cobra.Command {
	var m messageFlags
	m.add(cmd, defaultType)
	cmd.Args = arguments(recipient, "DATA")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkUTF8(recipient, args[0]); err != nil {
			return err
		}
		return s.publish(cmd.Context(), &m, args[1], func(ctx context.Context, c pealv1.ControlServiceClient, data string) (reply, error) {
			return send(ctx, c, &m, args[0], data)
		})
	}
	return cmd
}
