package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/peald/peald/client"
)

const defaultStream = "http://127.0.0.1:8080/events"

type tailFlags struct {
	topics       []string
	userToken    string
	lastEventID  string
	since        string
	rewind       int
	silenceLimit time.Duration
	count        int
}

func newTail(s *session) *cobra.Command {
	var flags tailFlags
	cmd := &cobra.Command{
		Use:   "tail [URL]",
		Short: "Follow an event stream the way EventSource does",
		Long: `Follow the event stream at URL (default ` + defaultStream + `) the
way a browser's EventSource does. When the stream closes, tail reconnects and
sends the ID of the last event. It waits for as long as the server requested, and
longer after each failure. When the server rejects the stream, tail exits.

A stream starts at the current end of the history, unless --since, --rewind or
--last-event-id is given.

Each event is printed as its ID, its type and its data, separated by tabs.
Further lines of the data are indented and control characters are escaped. With
--output json each event is one line of JSON.`,
		Example: `  pealctl tail
  pealctl tail --topic news --topic 'orders.*'
  pealctl tail --topic 'orders.*' --since 10m
  pealctl tail --topic news --rewind 20
  pealctl tail --user-token "$(pealctl token --user alice)"`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("too many arguments %q; want at most one URL", args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			address := defaultStream
			if len(args) == 1 {
				address = args[0]
			}
			if flags.userToken == "" {
				flags.userToken = s.getenv(envPrefix + "USER_TOKEN")
			}
			if err := flags.check(); err != nil {
				return err
			}
			start, err := flags.start(cmd.Flags().Changed)
			if err != nil {
				return err
			}
			return s.tail(cmd.Context(), address, flags, start)
		},
	}

	cmd.Flags().StringArrayVar(&flags.topics, "topic", nil, "subscribe to this topic or pattern; can be repeated")
	cmd.Flags().StringVar(&flags.userToken, "user-token", "", "subscriber `token` to send as Authorization: Bearer (PEALCTL_USER_TOKEN)")
	cmd.Flags().StringVar(&flags.lastEventID, "last-event-id", "", "resume after the event with this `id`, if the event history still holds what follows")
	cmd.Flags().StringVar(&flags.since, "since", "", "start with the events since `when`: all, a duration such as 10m, a time such as 2026-11-27T09:30:00Z, or the ID of an event")
	cmd.Flags().IntVar(&flags.rewind, "rewind", 0, fmt.Sprintf("start with the last `n` events, 1 to %d", maxRewind))
	cmd.Flags().DurationVar(&flags.silenceLimit, "silence-limit", 45*time.Second, "reconnect if nothing arrives for this long; three times the server's sse.heartbeat is a good value, and 0 is no limit")
	cmd.Flags().IntVarP(&flags.count, "count", "n", 0, "exit after this many events (default: no limit)")
	cmd.MarkFlagsMutuallyExclusive("last-event-id", "since", "rewind")
	return cmd
}

const maxRewind = 1000

// check returns an error that names an invalid flag other than the start.
func (f *tailFlags) check() error {
	switch {
	case slices.Contains(f.topics, ""):
		return usagef(`invalid --topic ""; want a topic or a pattern`)
	case strings.ContainsFunc(f.userToken, unicode.IsControl):
		return usagef("invalid --user-token: it contains a control character")
	case f.silenceLimit < 0:
		return usagef("invalid --silence-limit %s; want 0 or more", f.silenceLimit)
	}
	return nil
}

// start returns the option for where the stream starts. Changed reports whether a flag
// was given.
func (f *tailFlags) start(changed func(name string) bool) (client.Option, error) {
	switch {
	case changed("since"):
		return parseSince(f.since)
	case changed("rewind"):
		if f.rewind < 1 || f.rewind > maxRewind {
			return nil, usagef("invalid --rewind %d; want a number of events from 1 to %d", f.rewind, maxRewind)
		}
		return client.WithRewind(f.rewind), nil
	}
	if strings.ContainsFunc(f.lastEventID, unicode.IsControl) || strings.TrimSpace(f.lastEventID) != f.lastEventID {
		return nil, usagef("invalid --last-event-id %q; want an id without control characters and surrounding spaces", f.lastEventID)
	}
	return client.WithPosition(f.lastEventID), nil
}

// parseSince returns the option for a value of --since.
func parseSince(value string) (client.Option, error) {
	if value == "all" {
		return client.WithSinceAll(), nil
	}
	if d, err := time.ParseDuration(value); err == nil && d > 0 {
		return client.WithSince(d), nil
	}
	var at time.Time
	if err := at.UnmarshalText([]byte(value)); err == nil {
		return client.WithSinceTime(at), nil
	}
	if regexp.MustCompile(`^[0-9a-z]+-[0-9]+$`).MatchString(value) {
		return client.WithPosition(value), nil
	}
	return nil, usagef("invalid --since %q; want all, a duration such as 10m, a time such as 2026-11-27T09:30:00Z, or the ID of an event", value)
}

func (s *session) tail(ctx context.Context, address string, flags tailFlags, start client.Option) error {
	trust, err := s.tls.config()
	if err != nil {
		return err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()

	header := http.Header{"User-Agent": {"pealctl"}}
	if flags.userToken != "" {
		header.Set("Authorization", "Bearer "+flags.userToken)
	}

	const longest = 16 << 20
	stream, err := client.Subscribe(ctx, address, start,
		client.WithTopics(flags.topics...),
		client.WithHeader(header),
		client.WithHTTPClient(&http.Client{Transport: transport}),
		client.WithMaxEventSize(longest),
		client.WithSilenceLimit(flags.silenceLimit),
		client.WithOnRetry(func(err error, delay time.Duration) {
			fmt.Fprintf(s.stderr, "pealctl: %s; reconnecting in %s\n", escaped(err.Error()), delay.Round(time.Millisecond))
		}))
	if err != nil {
		return usagef("%w", err)
	}
	return s.printStream(ctx, stream, address, flags.count)
}

// printStream prints the events of a stream until there are count, or ctx is done.
func (s *session) printStream(ctx context.Context, stream *client.Subscription, address string, count int) error {
	seen := 0
	for event, err := range stream.Events() {
		switch {
		case ctx.Err() != nil:
			return nil // an interrupt is the normal way to stop a tail
		case err != nil:
			return fmt.Errorf("%s", escaped(err.Error()))
		}
		if err := s.printEvent(event); err != nil {
			return err
		}
		if seen++; seen == count {
			return nil
		}
	}
	return fmt.Errorf("%s: rejected with 204 No Content: the topic has ended, or the user is banned", withoutSecrets(address))
}

// withoutSecrets returns the URL of a stream without its user and its query.
func withoutSecrets(address string) string {
	stream, err := url.Parse(address)
	if err != nil {
		return "the stream"
	}
	stream.User, stream.RawQuery, stream.Fragment = nil, "", ""
	return stream.String()
}

func (s *session) printEvent(e client.Event) error {
	if s.output.json {
		text, err := json.Marshal(struct {
			ID    string `json:"id"`
			Event string `json:"event"`
			Data  string `json:"data"`
		}{e.ID, e.Type, e.Data})
		if err != nil {
			return fmt.Errorf("encode an event: %w", err)
		}

		_, err = fmt.Fprintf(s.stdout, "%s\n", text)
		return err
	}

	lines := strings.Split(e.Data, "\n")
	for i := range lines {
		lines[i] = escaped(lines[i])
	}

	_, err := fmt.Fprintf(s.stdout, "%s\t%s\t%s\n", escaped(e.ID), escaped(e.Type), strings.Join(lines, "\n\t\t"))
	return err
}
