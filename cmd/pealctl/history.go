package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

type historyFlags struct {
	audienceFlags

	after    string
	newest   bool
	retained bool
	count    int
}

func newHistory(s *session) *cobra.Command {
	var flags historyFlags
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Show the messages that the history holds for a topic, a user or everyone",
		Long: `Show the messages that the event history holds for a topic, a user or everyone,
the oldest first. The messages to a topic or a user don't include broadcasts. The
call needs the scope "data".

If messages after --after have left the history, history exits with an error. To
see what is left, omit the flag.`,
		Example: `  pealctl history --topic orders.7
  pealctl history --user alice --newest -n 10
  pealctl history --broadcast --after k3f9-42
  pealctl history --topic prices.eur --retained`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			request, err := flags.request(cmd)
			if err != nil {
				return err
			}
			return s.history(cmd.Context(), request, flags.count)
		},
	}

	flags.add(cmd, "show the messages", "to this topic", "to this user", "to everyone")
	cmd.Flags().StringVar(&flags.after, "after", "", "show only messages after the event with this `id`")
	cmd.Flags().BoolVar(&flags.newest, "newest", false, "show the newest messages first")
	cmd.Flags().BoolVar(&flags.retained, "retained", false, "show only retained values, even if they have left the history")
	cmd.Flags().IntVarP(&flags.count, "count", "n", 100, "show at most this many messages; 0 for all")
	return cmd
}

// request returns the request for the first page, without its size.
func (f *historyFlags) request(cmd *cobra.Command) (*pealv1.ListMessagesRequest, error) {
	if err := f.check(cmd); err != nil {
		return nil, err
	}
	if err := checkUTF8("--after", f.after); err != nil {
		return nil, err
	}
	if f.count < 0 {
		return nil, usagef("--count: invalid number %d; want 1 or more, or 0 for all", f.count)
	}

	request := &pealv1.ListMessagesRequest{AfterId: f.after, Retained: f.retained}
	switch {
	case cmd.Flags().Changed("topic"):
		request.Audience = &pealv1.ListMessagesRequest_Topic{Topic: f.topic}
	case cmd.Flags().Changed("user"):
		request.Audience = &pealv1.ListMessagesRequest_UserId{UserId: f.user}
	default:
		request.Audience = &pealv1.ListMessagesRequest_Everyone{Everyone: true}
	}
	if f.newest {
		request.Order = "newest"
	}
	return request, nil
}

// history prints up to count messages, or all of them if count is 0.
func (s *session) history(ctx context.Context, request *pealv1.ListMessagesRequest, count int) error {
	reply := &pealv1.ListMessagesResponse{}
	for {
		const largest = 1000
		request.PageSize = largest
		if left := count - len(reply.GetMessages()); count > 0 && left < largest {
			request.PageSize = int32(left)
		}
		err := s.call(ctx, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			page, err := c.ListMessages(ctx, request)
			if err != nil {
				return err
			}
			if len(page.GetMessages()) == 0 && page.GetNextPageToken() != "" {
				return errors.New("the daemon returned an empty page that isn't the last one")
			}
			reply.Messages = append(reply.Messages, page.GetMessages()...)
			reply.Position, reply.NextPageToken = page.GetPosition(), page.GetNextPageToken()
			return nil
		})
		if err != nil {
			return err
		}
		request.PageToken = reply.GetNextPageToken()
		if request.GetPageToken() == "" || len(reply.GetMessages()) == count {
			break
		}
	}

	if err := s.print(reply, messageRows(reply, request.GetRetained())); err != nil {
		return err
	}
	if reply.GetNextPageToken() != "" && !s.output.json {
		fmt.Fprintf(s.stderr, "The history has more messages. Use -n to show more, or -n 0 to show all.\n")
	}
	return nil
}

// messageRows appends a row for each message. Only retained values have conflate keys.
func messageRows(reply *pealv1.ListMessagesResponse, retained bool) func(table.Writer) {
	return func(t table.Writer) {
		header, keys := table.Row{"id", "time"}, table.Row{}
		if retained {
			header = append(header, "conflate key")
		}
		t.AppendHeader(append(header, "event", "data"))
		for _, m := range reply.GetMessages() {
			if retained {
				keys = table.Row{escaped(m.GetConflateKey())}
			}
			row := append(table.Row{escaped(m.GetId()), m.GetTime().AsTime().Local().Format(time.DateTime)}, keys...)
			t.AppendRow(append(row, escaped(m.GetEvent()), escaped(m.GetData())))
		}
	}
}
