package main

import (
	"context"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// audienceFlags select one audience.
type audienceFlags struct {
	topic, user string
	broadcast   bool
}

// add defines the flags on cmd. The verb and the nouns complete their descriptions.
func (f *audienceFlags) add(cmd *cobra.Command, verb, ofTopic, ofUser, ofEveryone string) {
	cmd.Flags().StringVar(&f.topic, "topic", "", verb+" "+ofTopic)
	cmd.Flags().StringVar(&f.user, "user", "", verb+" "+ofUser)
	cmd.Flags().BoolVar(&f.broadcast, "broadcast", false, verb+" "+ofEveryone)
	cmd.MarkFlagsMutuallyExclusive("topic", "user", "broadcast")
	cmd.MarkFlagsOneRequired("topic", "user", "broadcast")
}

// check returns an error if the flags select nothing.
func (f *audienceFlags) check(cmd *cobra.Command) error {
	for flag, text := range map[string]string{"--topic": f.topic, "--user": f.user} {
		if err := checkUTF8(flag, text); err != nil {
			return err
		}
	}
	if !f.broadcast && !cmd.Flags().Changed("topic") && !cmd.Flags().Changed("user") {
		return usagef("--broadcast is false; want --topic, --user or --broadcast")
	}
	return nil
}

func newRetained(s *session) *cobra.Command {
	flags := historyFlags{retained: true}
	cmd := &cobra.Command{
		Use:   "retained",
		Short: "Show or clear the retained values of a topic, a user or broadcasts",
		Long: `Show the retained values of a topic, a user or broadcasts, in the order in which
streams receive them. The call needs the scope "data".`,
		Example: `  pealctl retained --topic prices.eur
  pealctl retained clear --topic prices.eur`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			request, err := flags.request(cmd)
			if err != nil {
				return err
			}
			return s.history(cmd.Context(), request, 0)
		},
	}
	flags.add(cmd, "show the values", "of this topic", "of this user", "of broadcasts")
	cmd.AddCommand(newRetainedClear(s))
	return cmd
}

func newRetainedClear(s *session) *cobra.Command {
	var flags audienceFlags
	var key string
	cmd := &cobra.Command{
		Use:   "clear",
		Short: "Clear the retained values of a topic, a user or broadcasts",
		Long: `Clear the retained values of a topic, a user or broadcasts. Streams that have
received them are not notified.`,
		Example: `  pealctl retained clear --topic prices.eur
  pealctl retained clear --user alice --conflate-key cart`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			if err := checkUTF8("--conflate-key", key); err != nil {
				return err
			}
			request := &pealv1.ClearRetainedRequest{Audience: &pealv1.ClearRetainedRequest_Everyone{Everyone: true}}
			switch {
			case cmd.Flags().Changed("topic"):
				request.Audience = &pealv1.ClearRetainedRequest_Topic{Topic: flags.topic}
			case cmd.Flags().Changed("user"):
				request.Audience = &pealv1.ClearRetainedRequest_UserId{UserId: flags.user}
			}
			if cmd.Flags().Changed("conflate-key") {
				request.ConflateKeyValue = &pealv1.ClearRetainedRequest_ConflateKey{ConflateKey: key}
			}
			return s.call(cmd.Context(), func(ctx context.Context, c pealv1.ControlServiceClient) error {
				reply, err := c.ClearRetained(ctx, request)
				if err != nil {
					return err
				}
				return s.print(reply, func(t table.Writer) {
					t.AppendHeader(table.Row{"values cleared"})
					t.AppendRow(table.Row{reply.GetCleared()})
				})
			})
		},
	}
	flags.add(cmd, "clear the values", "of this topic", "of this user", "of broadcasts")
	cmd.Flags().StringVar(&key, "conflate-key", "", `clear only the value with this `+"`key`"+`, which may be empty (default: all values)`)
	return cmd
}
