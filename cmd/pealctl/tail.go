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
		Short: "Follow an event stream as a browser's EventSource would",
		Long: `Follow the event stream at URL (default ` + defaultStream + `) as a
browser's EventSource would: when it ends, connect again after the time that
the server asked for, with the id of the last event; when the server refuses,
give up.

An event is printed as its id, its type and its data, further lines of the data
indented, control characters escaped; with --output json as one line of JSON.`,
		Example: `  pealctl tail
  pealctl tail --topic news --topic 'orders.*'
  pealctl tail --user-token "$(pealctl token --user alice)"`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("one URL at most, given %q", args)
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

	cmd.Flags().StringArrayVar(&flags.topics, "topic", nil, "subscribe to this topic or pattern; may be given several times")
	cmd.Flags().StringVar(&flags.userToken, "user-token", "", "subscriber `token` to be sent as Authorization: Bearer (PEALCTL_USER_TOKEN)")
	cmd.Flags().StringVar(&flags.lastEventID, "last-event-id", "", "begin after the event with this `id`, as far as the daemon's log goes back")
	cmd.Flags().IntVarP(&flags.count, "count", "n", 0, "end after so many events")
	return cmd
}

func (s *session) tail(ctx context.Context, url string, flags tailFlags) error {
	ctx, done := context.WithCancelCause(ctx)
	defer done(nil)

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return usagef("%q is no address of a stream: %w", url, err)
	}
	if scheme := request.URL.Scheme; scheme != "http" && scheme != "https" || request.URL.Host == "" {
		return usagef("%q is no address of a stream, such as %s or one that begins with https://", url, defaultStream)
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
		// What browsers do: three seconds unless the server says otherwise, and
		// no growth. The library has no way to say "no jitter" but a tiny one.
		Backoff: sse.Backoff{InitialInterval: 3 * time.Second, Multiplier: 1, Jitter: 1e-9},
		OnRetry: func(err error, after time.Duration) {
			if ctx.Err() != nil {
				return
			}
			// No browser would come back either, and nor would it help.
			if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
				done(fmt.Errorf("%s: %w", url, reason(err)))
				return
			}
			fmt.Fprintf(s.stderr, "pealctl: %s; connecting again in %s\n", ended(err), after.Round(time.Millisecond))
		},
	}

	connection := client.NewConnection(request)
	const longest = 16 << 20
	connection.Buffer(nil, longest)
	seen := 0

	connection.SubscribeToAll(func(e sse.Event) {
		// Position marks have no data, and neither have blocks that only carry
		// an id or a retry, for which the library calls back too.
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
		return nil // an interrupt is how a tail ends
	case cause != nil:
		return cause
	}

	return fmt.Errorf("%s: %w", url, reason(err))
}

// resuming sends the id that a tail began with until the library has one of its
// own to send: it forgets what it was given when it connects again.
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

// reason takes off what the library says around the cause.
func reason(err error) error {
	if wrapped, ok := errors.AsType[*sse.ConnectionError](err); ok {
		return wrapped.Err
	}
	return err
}

func ended(err error) string {
	err = reason(err)
	if errors.Is(err, io.EOF) {
		return "the stream has ended"
	}
	return err.Error()
}

// acceptable is what an EventSource asks of a response, and says of a refusal
// what the server said.
func acceptable(r *http.Response) error {
	if r.StatusCode != http.StatusOK {
		said, _ := bufio.NewReader(io.LimitReader(r.Body, 1<<10)).ReadString('\n')
		if said = strings.TrimSpace(said); said != "" {
			said = ": " + escaped(said)
		}
		return fmt.Errorf("refused with %s%s", r.Status, said)
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "text/event-stream" {
		return fmt.Errorf("what answers there is no event stream but %q", r.Header.Get("Content-Type"))
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
