package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/tmaxmax/go-sse"
)

const defaultStream = "http://127.0.0.1:8080/events"

type tailFlags struct {
	topics      []string
	userToken   string
	lastEventID string
	count       int
}

func newTail(s *session) *cobra.Command {
	var flags tailFlags
	cmd := &cobra.Command{
		Use:   "tail [URL]",
		Short: "Follow an event stream the way EventSource does",
		Long: `Follow the event stream at URL (default ` + defaultStream + `) the
way a browser's EventSource does. When the stream closes, tail reconnects after
the delay that the server requested and sends the ID of the last event. When the
server rejects the stream, tail exits.

Each event is printed as its ID, its type and its data, separated by tabs.
Further lines of the data are indented and control characters are escaped. With
--output json each event is one line of JSON.`,
		Example: `  pealctl tail
  pealctl tail --topic news --topic 'orders.*'
  pealctl tail --user-token "$(pealctl token --user alice)"`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("too many arguments %q; want at most one URL", args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			url := defaultStream
			if len(args) == 1 {
				url = args[0]
			}
			if flags.userToken == "" {
				flags.userToken = s.getenv(envPrefix + "USER_TOKEN")
			}
			return s.tail(cmd.Context(), url, flags)
		},
	}

	cmd.Flags().StringArrayVar(&flags.topics, "topic", nil, "subscribe to this topic or pattern; can be repeated")
	cmd.Flags().StringVar(&flags.userToken, "user-token", "", "subscriber `token` to send as Authorization: Bearer (PEALCTL_USER_TOKEN)")
	cmd.Flags().StringVar(&flags.lastEventID, "last-event-id", "", "resume after the event with this `id`, if the event history still holds what follows")
	cmd.Flags().IntVarP(&flags.count, "count", "n", 0, "exit after this many events (default: no limit)")
	return cmd
}

func (s *session) tail(ctx context.Context, url string, flags tailFlags) error {
	ctx, done := context.WithCancelCause(ctx)
	defer done(nil)

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return usagef("invalid stream URL %q: %w", url, err)
	}
	if scheme := request.URL.Scheme; scheme != "http" && scheme != "https" || request.URL.Host == "" {
		return usagef("invalid stream URL %q; want an http:// or https:// URL, such as %s", url, defaultStream)
	}

	if len(flags.topics) > 0 {
		query := request.URL.Query()
		query["topic"] = append(query["topic"], flags.topics...)
		request.URL.RawQuery = query.Encode()
	}

	request.Header.Set("User-Agent", "pealctl")
	if flags.userToken != "" {
		request.Header.Set("Authorization", "Bearer "+flags.userToken)
	}

	trust, err := s.tls.config()
	if err != nil {
		return err
	}

	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()

	enough := errors.New("enough events")
	client := sse.Client{
		HTTPClient:        &http.Client{Transport: resuming{after: flags.lastEventID, next: transport}},
		ResponseValidator: acceptable,
		// Browsers wait three seconds unless the server sets another delay, and
		// don't increase it. The library doesn't accept zero jitter.
		Backoff: sse.Backoff{InitialInterval: 3 * time.Second, Multiplier: 1, Jitter: 1e-9},
		OnRetry: func(err error, after time.Duration) {
			if ctx.Err() != nil {
				return
			}
			// A browser wouldn't retry after this either, and retrying wouldn't help.
			if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
				done(fmt.Errorf("%s: %w", url, reason(err)))
				return
			}
			fmt.Fprintf(s.stderr, "pealctl: %s; reconnecting in %s\n", closeReason(err), after.Round(time.Millisecond))
		},
	}

	connection := client.NewConnection(request)
	const longest = 16 << 20
	connection.Buffer(nil, longest)
	seen := 0

	connection.SubscribeToAll(func(e sse.Event) {
		// The library also invokes the callback for position marks and for blocks
		// that hold only an id or a retry. Those have no data.
		if e.Data == "" || ctx.Err() != nil {
			return
		}

		if err := s.printEvent(e); err != nil {
			done(err)
			return
		}

		if seen++; seen == flags.count {
			done(enough)
		}
	})

	err = connection.Connect()
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, enough), errors.Is(cause, context.Canceled):
		return nil // an interrupt is the normal way to stop a tail
	case cause != nil:
		return cause
	}

	return fmt.Errorf("%s: %w", url, reason(err))
}

// resuming adds the initial Last-Event-ID to requests that have none. The
// library drops the initial ID when it reconnects before the first event.
type resuming struct {
	after string
	next  http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (r resuming) RoundTrip(request *http.Request) (*http.Response, error) {
	const header = "Last-Event-ID"
	if r.after != "" && request.Header.Get(header) == "" {
		request = request.Clone(request.Context())
		request.Header.Set(header, r.after)
	}
	return r.next.RoundTrip(request)
}

// reason returns the cause of a library error, without the library's wrapping.
func reason(err error) error {
	if wrapped, ok := errors.AsType[*sse.ConnectionError](err); ok {
		return wrapped.Err
	}
	return err
}

func closeReason(err error) string {
	err = reason(err)
	if errors.Is(err, io.EOF) {
		return "stream closed by the server"
	}
	return err.Error()
}

// acceptable returns an error for a response that EventSource wouldn't accept.
// The error contains the first line of the body.
func acceptable(r *http.Response) error {
	if r.StatusCode != http.StatusOK {
		line, _ := bufio.NewReader(io.LimitReader(r.Body, 1<<10)).ReadString('\n')
		if line = strings.TrimSpace(line); line != "" {
			line = ": " + escaped(line)
		}
		if r.StatusCode == http.StatusNoContent {
			line = ": the topic has ended, or the user is banned"
		}
		return fmt.Errorf("rejected with %s%s", r.Status, line)
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "text/event-stream" {
		return fmt.Errorf("the response is not an event stream: Content-Type is %q; want text/event-stream", r.Header.Get("Content-Type"))
	}
	return nil
}

func (s *session) printEvent(e sse.Event) error {
	if e.Type == "" {
		e.Type = "message"
	}

	if s.output.json {
		text, err := json.Marshal(struct {
			ID    string `json:"id"`
			Event string `json:"event"`
			Data  string `json:"data"`
		}{e.LastEventID, e.Type, e.Data})
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

	_, err := fmt.Fprintf(s.stdout, "%s\t%s\t%s\n", escaped(e.LastEventID), escaped(e.Type), strings.Join(lines, "\n\t\t"))
	return err
}
