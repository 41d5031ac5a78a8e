package main

import (
	"context"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// audienceFlags select one audience.
type audienceFlags struct {
	topic, user string
	broadcast   bool
}

// add defines the flags on cmd, one of which is required. The verb and the nouns complete
// their descriptions.
func (f *audienceFlags) add(cmd *cobra.Command, verb, ofTopic, ofUser, ofEveryone string) {
	f.define(cmd, verb, ofTopic, ofUser, ofEveryone)
	cmd.MarkFlagsOneRequired("topic", "user", "broadcast")
}

// define is like add, but the flags are optional.
func (f *audienceFlags) define(cmd *cobra.Command, verb, ofTopic, ofUser, ofEveryone string) {
	cmd.Flags().StringVar(&f.topic, "topic", "", verb+" "+ofTopic)
	cmd.Flags().StringVar(&f.user, "user", "", verb+" "+ofUser)
	cmd.Flags().BoolVar(&f.broadcast, "broadcast", false, verb+" "+ofEveryone)
	cmd.MarkFlagsMutuallyExclusive("topic", "user", "broadcast")
}

// given reports whether one of the flags has been set.
func (f *audienceFlags) given(cmd *cobra.Command) bool {
	return slices.ContainsFunc([]string{"topic", "user", "broadcast"}, cmd.Flags().Changed)
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
	var (
		flags    = historyFlags{retained: true}
		pages    pageFlags
		matching string
	)

	cmd := &cobra.Command{
		Use:   "retained",
		Short: "Show or clear retained values",
		Long: `List the audiences that have retained values, with the number of values and the
memory that they use: one page, or with --all every page.

With --topic, --user or --broadcast, show the values of one audience, in the order
in which streams receive them. That call needs the scope "data".`,
		Example: `  pealctl retained
  pealctl retained --matching 'prices.*'
  pealctl retained --topic prices.eur
  pealctl retained clear --topic prices.eur`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.given(cmd) {
				request, err := flags.request(cmd)
				if err != nil {
					return err
				}
				return s.history(cmd.Context(), request, 0)
			}
			if err := checkUTF8("--matching", matching); err != nil {
				return err
			}
			return s.listRetained(cmd.Context(), &pages, matching)
		},
	}

	flags.define(cmd, "show the values", "of this topic", "of this user", "of broadcasts")
	cmd.Flags().StringVar(&matching, "matching", "", "list only topics that match this `pattern`")
	pages.add(cmd, "audiences")
	for _, audience := range []string{"topic", "user", "broadcast"} {
		for _, page := range []string{"matching", "all", "page-size", "page-token"} {
			cmd.MarkFlagsMutuallyExclusive(audience, page)
		}
	}
	cmd.AddCommand(newRetainedClear(s))
	return cmd
}

func (s *session) listRetained(ctx context.Context, pages *pageFlags, matching string) error {
	var listed pealv1.ListRetainedResponse
	err := s.pages(ctx, pages, func(ctx context.Context, c pealv1.ControlServiceClient) (next string, err error) {
		page, err := c.ListRetained(ctx, &pealv1.ListRetainedRequest{Topic: matching, PageSize: pages.size, PageToken: pages.token})
		listed.Audiences = append(listed.Audiences, page.GetAudiences()...)
		listed.NextPageToken = page.GetNextPageToken()
		return page.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}

	err = s.print(&listed, func(t table.Writer) {
		t.AppendHeader(table.Row{"audience", "name", "values", "bytes"})
		for _, a := range listed.GetAudiences() {
			kind, name := "broadcast", "-"
			switch to := a.GetAudience().(type) {
			case *pealv1.RetainedAudience_UserId:
				kind, name = "user", escaped(to.UserId)
			case *pealv1.RetainedAudience_Topic:
				kind, name = "topic", escaped(to.Topic)
			}
			t.AppendRow(table.Row{kind, name, a.GetEvents(), a.GetBytes()})
		}
	})
	if err != nil {
		return err
	}
	s.noteNextPage(listed.GetNextPageToken())
	return nil
}

func newRetainedClear(s *session) *cobra.Command {
	var (
		flags audienceFlags
		key   string
		all   bool
	)

	cmd := &cobra.Command{
		Use:   "clear",
		Short: "Clear the retained values of a topic, a user or broadcasts, or all values",
		Long: `Clear the retained values of a topic, a user or broadcasts, or with --all those of
all audiences at once. Streams that have received them are not notified.`,
		Example: `  pealctl retained clear --topic prices.eur
  pealctl retained clear --user alice --conflate-key cart
  pealctl retained clear --all`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("all") {
				if err := flags.check(cmd); err != nil {
					return err
				}
			} else if !all {
				return usagef("--all is false; want --all, --topic, --user or --broadcast")
			}
			if err := checkUTF8("--conflate-key", key); err != nil {
				return err
			}
			request := &pealv1.ClearRetainedRequest{Audience: &pealv1.ClearRetainedRequest_Everyone{Everyone: true}}
			switch {
			case all:
				request.Audience = &pealv1.ClearRetainedRequest_All{All: true}
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
	flags.define(cmd, "clear the values", "of this topic", "of this user", "of broadcasts")
	cmd.Flags().BoolVar(&all, "all", false, "clear the values of all audiences")
	cmd.MarkFlagsMutuallyExclusive("all", "topic", "user", "broadcast")
	cmd.MarkFlagsOneRequired("all", "topic", "user", "broadcast")
	cmd.Flags().StringVar(&key, "conflate-key", "", `clear only the value with this `+"`key`"+`, which may be empty (default: all values)`)
	cmd.MarkFlagsMutuallyExclusive("all", "conflate-key")
	return cmd
}
