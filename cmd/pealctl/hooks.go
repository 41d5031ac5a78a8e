package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newHooks(s *session) *cobra.Command {
	hooks := &cobra.Command{
		Use:   "hooks",
		Short: "List the daemon's webhooks and how well they are delivered",
		Long: `List the daemon's webhooks and how well they are delivered. In a cluster, one node
sends the events of each webhook.

  state    sending; failing: the receiver doesn't accept requests; starting: no
           node is ready to send yet; standby: the node that sends didn't reply
  delay    how long a user or topic must be without streams before the receiver
           is notified
  pending  the number of events that haven't been sent yet
  sent     the number of events that the receiver has accepted
  failed   the number of requests that the receiver hasn't accepted
  success  the time since the receiver accepted a request

URLs are shown without user info and query, because these may be secret.`,
		Example: `  pealctl hooks
  pealctl hooks test`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.call(cmd.Context(), func(ctx context.Context, c pealv1.ControlServiceClient) error {
				reply, err := c.ListHooks(ctx, &pealv1.ListHooksRequest{})
				if err != nil {
					return err
				}
				if err := s.print(reply, hookRows(reply, time.Now())); err != nil || s.output.json {
					return err
				}
				for _, h := range reply.GetHooks() {
					if h.GetState() == pealv1.HookState_HOOK_STATE_FAILING {
						fmt.Fprintf(s.stdout, "%s: %s\n", escaped(h.GetUrl()), escaped(h.GetLastError()))
					}
				}
				return nil
			})
		},
	}

	hooks.AddCommand(newTestHook(s))
	return hooks
}

func hookRows(reply *pealv1.ListHooksResponse, now time.Time) func(table.Writer) {
	return func(t table.Writer) {
		t.AppendHeader(table.Row{"url", "state", "node", "events", "delay", "pending", "sent", "failed", "success"})
		for _, h := range reply.GetHooks() {
			node := escaped(h.GetNode())
			if node == "" {
				node = "-"
			}
			t.AppendRow(table.Row{
				escaped(h.GetUrl()), hookStateOf(h), node, escaped(strings.Join(h.GetEvents(), " ")), h.GetDelay().AsDuration(),
				h.GetPending(), h.GetEventsSent(), h.GetFailedRequests(), agoOf(h.GetLastSuccess(), now),
			})
		}
	}
}

func hookStateOf(h *pealv1.Hook) string {
	return strings.ToLower(strings.TrimPrefix(h.GetState().String(), "HOOK_STATE_"))
}

// agoOf returns the time since at, or "-" if at is absent.
func agoOf(at *timestamppb.Timestamp, now time.Time) string {
	if at == nil {
		return "-"
	}
	return max(now.Sub(at.AsTime()), 0).Round(100*time.Millisecond).String() + " ago"
}

func newTestHook(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "test [URL]",
		Short: "Send a signed test message to the receiver of a webhook",
		Long: `Send one signed message of type peald.test to the receiver of a webhook, and print
its response. The daemon sends the message, so the command also tests whether the
daemon can reach the receiver.

URL selects a webhook, as shown by pealctl hooks. It isn't needed if there is only
one. The exit status is 1 if the receiver doesn't accept the message.`,
		Example: `  pealctl hooks test
  pealctl hooks test https://app.example.com/hooks/presence`,
		Args: optionalArgument("URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := &pealv1.TestHookRequest{}
			if len(args) > 0 {
				request.Url = args[0]
			}
			if err := checkUTF8("URL", request.GetUrl()); err != nil {
				return err
			}
			return s.call(cmd.Context(), func(ctx context.Context, c pealv1.ControlServiceClient) error {
				reply, err := c.TestHook(ctx, request)
				if err != nil {
					return err
				}
				if err := s.print(reply, testHookRows(reply)); err != nil {
					return err
				}
				if !reply.GetAccepted() {
					return fmt.Errorf("the receiver didn't accept the message: %s", escaped(reply.GetError()))
				}
				return nil
			})
		},
	}
}

func testHookRows(reply *pealv1.TestHookResponse) func(table.Writer) {
	return func(t table.Writer) {
		status := "no response"
		if n := reply.GetStatus(); n != 0 {
			status = strconv.Itoa(int(n))
		}
		t.AppendHeader(table.Row{"url", "message", "status", "took", "response"})
		t.AppendRow(table.Row{
			escaped(reply.GetUrl()), escaped(reply.GetMessageId()), status,
			reply.GetDuration().AsDuration().Round(time.Millisecond), escaped(strings.TrimSpace(reply.GetBody())),
		})
	}
}
