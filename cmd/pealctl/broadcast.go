package main

import (
	"context"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newBroadcast(s *session) *cobra.Command {
	var (
		m       messageFlags
		exclude string
	)
	cmd := &cobra.Command{
		Use:   "broadcast DATA",
		Short: "Send an event to all streams",
		Long: `Send an event to all open streams, authenticated or not. The browser receives
DATA unchanged in MessageEvent.data. If DATA is -, it is read from standard
input.`,
		Example: `  pealctl broadcast 'the shop is open'
  date | pealctl broadcast --event clock -`,
		Args: arguments("DATA"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkUTF8("--exclude-user", exclude); err != nil {
				return err
			}
			return s.publish(cmd.Context(), &m, args[0], func(ctx context.Context, c pealv1.ControlServiceClient, data string) (reply, error) {
				return c.Broadcast(ctx, &pealv1.BroadcastRequest{
					Data: data, Event: m.event, IdempotencyKey: m.idempotencyKey, ConflateKey: m.conflateKey, Ttl: m.ttl.value, Retain: m.retain,
					ExcludeUserId: exclude,
				})
			})
		},
	}

	m.add(cmd, "broadcast")
	addExcludeUser(cmd.Flags(), &exclude)
	return cmd
}

// reply is the daemon's reply to a published message.
type reply interface {
	proto.Message
	GetId() string
	GetRecipients() int32
}

// publish sends a message with the data that arg names, and prints the reply.
func (s *session) publish(ctx context.Context, m *messageFlags, arg string,
	send func(ctx context.Context, c pealv1.ControlServiceClient, data string) (reply, error),
) error {
	if err := m.check(); err != nil {
		return err
	}

	data, err := s.data(arg)
	if err != nil {
		return err
	}

	return s.call(ctx, func(ctx context.Context, c pealv1.ControlServiceClient) error {
		r, err := send(ctx, c, data)
		if err != nil {
			return err
		}
		return s.print(r, func(t table.Writer) {
			t.AppendHeader(table.Row{"id", "recipients"})
			t.AppendRow(table.Row{r.GetId(), r.GetRecipients()})
		})
	})
}
