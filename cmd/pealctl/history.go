package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

type historyFlags struct {
	audienceFlags

	after    string
	newest   bool
	retained bool
	count    int
	token    string
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
	cmd.Flags().StringVar(&flags.token, "page-token", "", "continue with this `token`, as printed with the previous messages")
	return cmd
}

// request returns the request for the first page, without its size.
func (f *historyFlags) request(cmd *cobra.Command) (*pealv1.ListMessagesRequest, error) {
	if err := f.check(cmd); err != nil {
		return nil, err
	}
	for flag, text := range map[string]string{"--after": f.after, "--page-token": f.token} {
		if err := checkUTF8(flag, text); err != nil {
			return nil, err
		}
	}
	if f.count < 0 {
		return nil, usagef("--count: invalid number %d; want 1 or more, or 0 for all", f.count)
	}

	request := &pealv1.ListMessagesRequest{AfterId: f.after, Retained: f.retained, PageToken: f.token}
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
		fmt.Fprintf(s.stderr, "The history has more messages. Use -n to show more, -n 0 to show all, or continue with --page-token %q.\n", reply.GetNextPageToken())
	}
	return nil
}

// messageRows appends a row for each message. Only retained values have conflate keys.
// The columns "expires" and "final" are shown if a message has them.
func messageRows(reply *pealv1.ListMessagesResponse, retained bool) func(table.Writer) {
	messages := reply.GetMessages()
	columns := []struct {
		name  string
		shown bool
		cell  func(*pealv1.Message) string
	}{
		{"id", true, func(m *pealv1.Message) string { return escaped(m.GetId()) }},
		{"time", true, func(m *pealv1.Message) string { return localTime(m.GetTime()) }},
		{"expires", slices.ContainsFunc(messages, func(m *pealv1.Message) bool { return m.GetExpireTime() != nil }), func(m *pealv1.Message) string {
			return localTime(m.GetExpireTime())
		}},
		{"conflate key", retained, func(m *pealv1.Message) string { return escaped(m.GetConflateKey()) }},
		{"final", slices.ContainsFunc(messages, (*pealv1.Message).GetFinal), func(m *pealv1.Message) string {
			return strconv.FormatBool(m.GetFinal())
		}},
		{"event", true, func(m *pealv1.Message) string { return escaped(m.GetEvent()) }},
		{"data", true, func(m *pealv1.Message) string { return escaped(m.GetData()) }},
	}

	return func(t table.Writer) {
		row := func(cell func(i int) string) (row table.Row) {
			for i := range columns {
				if columns[i].shown {
					row = append(row, cell(i))
				}
			}
			return row
		}
		t.AppendHeader(row(func(i int) string { return columns[i].name }))
		for _, m := range messages {
			t.AppendRow(row(func(i int) string { return columns[i].cell(m) }))
		}
	}
}

// localTime formats a time in the local zone; "-" if it is absent.
func localTime(at *timestamppb.Timestamp) string {
	if at == nil {
		return "-"
	}
	return at.AsTime().Local().Format(time.DateTime)
}
