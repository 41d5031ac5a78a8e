package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newToken(s *session) *cobra.Command {
	var (
		user   string
		topics []string
		ttl    time.Duration
	)

	cmd := &cobra.Command{
		Use:   "token --user USER",
		Short: "Create a subscriber token",
		Long: `Create a subscriber token, signed by the daemon with auth.jwt.hmac_secret, and
print only the token.`,
		Example: `  curl -N -H "Authorization: Bearer $(pealctl token --user alice)" http://127.0.0.1:8080/events
  pealctl token --user alice --topics 'news,orders.*' --ttl 10m`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkUTF8("--user", user); err != nil {
				return err
			}
			for i, topic := range topics {
				topics[i] = strings.TrimSpace(topic) // people write lists as "a, b"
				if err := checkUTF8("--topics", topic); err != nil {
					return err
				}
			}
			request := &pealv1.CreateTokenRequest{UserId: user, Topics: topics}
			if cmd.Flags().Changed("ttl") {
				request.Ttl = durationpb.New(ttl)
			}
			return s.call(cmd.Context(), func(ctx context.Context, c pealv1.ControlServiceClient) error {
				reply, err := c.CreateToken(ctx, request)
				if err != nil {
					return err
				}
				if s.output.json {
					return s.print(reply, nil)
				}
				_, err = fmt.Fprintln(s.stdout, reply.GetToken())
				return err
			})
		},
	}

	cmd.Flags().StringVar(&user, "user", "", "the user that the token identifies")
	cmd.Flags().StringSliceVar(&topics, "topics", nil, "comma-separated topics and patterns that the token may subscribe to")
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long the token is valid")
	must(cmd.MarkFlagRequired("user"))
	return cmd
}
