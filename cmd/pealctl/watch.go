package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newWatch(s *session) *cobra.Command {
	var request pealv1.WatchConnectionsRequest

	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Watch streams open and close",
		Long: `Watch streams open and close. The command first prints the users that are
connected, then one line per change: the time, the kind (present, opened or
ended), the user, the number of streams that the user has afterwards and, for
ended, the close reason. Anonymous streams are shown with the user (anonymous).

With --topic, it shows and counts only the streams that subscribe to that topic, by
name or by pattern.

With --output json each change is one line of JSON.`,
		Example: `  pealctl watch
  pealctl watch --topic orders.7
  pealctl watch --output json | jq -c 'select(.ended.connections == 0)'`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkUTF8("--topic", request.GetTopic()); err != nil {
				return err
			}
			if cmd.Flags().Changed("topic") && request.GetTopic() == "" {
				return usagef("--topic: empty topic; want a topic or pattern, or no --topic for all streams")
			}
			return s.watch(cmd.Context(), &request)
		},
	}

	cmd.Flags().StringVar(&request.Topic, "topic", "", "watch only the subscribers of this `topic` or pattern")
	return cmd
}

// anonymousUser stands for the user of anonymous streams.
const anonymousUser = "(anonymous)"

func (s *session) watch(ctx context.Context, request *pealv1.WatchConnectionsRequest) (err error) {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()

	watch, err := pealv1.NewControlServiceClient(conn).WatchConnections(ctx, request)
	if err != nil {
		return err
	}

	for {
		change, err := watch.Recv()
		switch {
		case ctx.Err() != nil, status.Code(err) == codes.Canceled:
			return nil // an interrupt is the normal way to stop watching
		case err != nil:
			return err
		}

		if err := s.printChange(change); err != nil {
			return err
		}
	}
}

func (s *session) printChange(change *pealv1.WatchConnectionsResponse) error {
	if s.output.json {
		text, err := jsonOf(change)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.stdout, "%s\n", text)
		return err
	}

	line := func(at *timestamppb.Timestamp, kind, user string, connections int32, reason string) error {
		if user == "" {
			user = anonymousUser
		}
		_, err := fmt.Fprintf(s.stdout, "%s\t%s\t%s\t%d%s\n", at.AsTime().Local().Format(time.DateTime), kind, escaped(user), connections, reason)
		return err
	}
	switch event := change.GetEvent().(type) {
	case *pealv1.WatchConnectionsResponse_Present:
		return line(event.Present.GetConnectedSince(), "present", event.Present.GetUserId(), event.Present.GetConnections(), "")
	case *pealv1.WatchConnectionsResponse_SnapshotComplete:
		if n := event.SnapshotComplete.GetAnonymousConnections(); n > 0 {
			return line(timestamppb.Now(), "present", "", n, "")
		}
	case *pealv1.WatchConnectionsResponse_Opened:
		return line(event.Opened.GetTime(), "opened", event.Opened.GetUserId(), event.Opened.GetConnections(), "")
	case *pealv1.WatchConnectionsResponse_Ended:
		return line(event.Ended.GetTime(), "ended", event.Ended.GetUserId(), event.Ended.GetConnections(), "\t"+event.Ended.GetReason())
	}

	return nil // the end of the snapshot without anonymous streams
}
