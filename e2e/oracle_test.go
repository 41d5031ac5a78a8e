package e2e_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/launchdarkly/eventsource"
	"github.com/tmaxmax/go-sse"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

// frame is an event as an EventSource dispatches it.
type frame struct {
	Type string `json:"type"`
	Data string `json:"data"`
	ID   string `json:"id"`
}

// String shortens data, which may be long.
func (f frame) String() string {
	const most = 80

	data := f.Data
	if len(data) > most {
		data = fmt.Sprintf("%.*s… (%d bytes)", most, data, len(f.Data))
	}

	return fmt.Sprintf("{%q %q %s}", f.Type, data, f.ID)
}

// longData is the number of bytes above which a browser reports the digest of data.
const longData = 10_000

// oracle is a third-party implementation of EventSource. It opens a stream, and
// returns a function that waits for n frames.
type oracle func(t *testing.T, stream string) func(n int) ([]frame, error)

// TestOraclesAgree publishes awkward events, and checks that five independent
// parsers of the event stream format read each of them correctly.
func TestOraclesAgree(t *testing.T) {
	t.Parallel()

	kinds := browsertest.Installed(t)

	pealdtest.OnEachEngine(t, func(t *testing.T, engine func(*daemon.Config)) {
		t.Helper()
		testOraclesAgree(t, engine, slices.DeleteFunc(browsersFor(engine), func(kind browsertest.Kind) bool {
			return !slices.Contains(kinds, kind)
		}))
	})
}

func testOraclesAgree(t *testing.T, engine func(*daemon.Config), kinds []browsertest.Kind) {
	t.Helper()

	pages := httptest.NewServer(http.HandlerFunc(oraclePage))
	t.Cleanup(pages.Close)

	oracles := map[string]oracle{
		"tmaxmax/go-sse":           inGoSSE,
		"launchdarkly/eventsource": inEventSource,
	}
	names := slices.Sorted(maps.Keys(oracles)) // first, because they read only what is taken

	for _, kind := range kinds {
		oracles[string(kind)] = inBrowser(kind, pages.URL)
		names = append(names, string(kind))
	}

	d := pealdtest.Start(t, engine, func(cfg *daemon.Config) {
		cfg.SSE.AllowedOrigins = []string{pages.URL}
		cfg.Broker.QueueBytes = 64 << 20 // the corpus is published faster than it is read
	})
	received := map[string]func(int) ([]frame, error){}

	for _, name := range names {
		received[name] = oracles[name](t, d.Events(t, "alice"))
	}

	d.WaitForStreams(t, int32(len(names)))

	want := publish(t, d.Control(t), corpus())

	for _, name := range names {
		got, err := received[name](len(want))
		if err != nil {
			t.Errorf("%s: %v", name, err)

			continue
		}

		for i, w := range want {
			if name == string(browsertest.Firefox) {
				w.Data = strings.ReplaceAll(w.Data, "\x00", "") // the library removes it
			}

			if slices.Contains(browsertest.Kinds(), browsertest.Kind(name)) {
				w.Data = orDigest(w.Data)
			}

			if got[i] != w {
				t.Errorf("%s: event %d of %d: got %v, want %v", name, i, len(want), got[i], w)
			}
		}
	}
}

// publish sends all messages, alternately to everyone and to alice, and returns the
// frames that alice's EventSource must dispatch.
func publish(t *testing.T, control pealv1.ControlServiceClient, messages []message) []frame {
	t.Helper()

	// The control plane normalizes line breaks.
	lineBreaks := strings.NewReplacer("\r\n", "\n", "\r", "\n")

	var want []frame

	for i, m := range messages {
		var (
			reply interface {
				GetId() string
				GetRecipients() int32
			}
			err  error
			kind = m.event
		)

		if i%2 == 0 {
			kind = cmp.Or(kind, "broadcast")
			reply, err = control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Event: m.event, Data: m.data})
		} else {
			kind = cmp.Or(kind, "individual")
			reply, err = control.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Event: m.event, Data: m.data})
		}

		if err != nil {
			t.Fatalf("publishing %v: %v", frame{m.event, m.data, ""}, err)
		}

		want = append(want, frame{kind, lineBreaks.Replace(m.data), reply.GetId()})
	}

	return want
}

// inBrowser is an oracle that opens a stream in a browser.
func inBrowser(kind browsertest.Kind, pages string) oracle {
	return func(t *testing.T, stream string) func(int) ([]frame, error) {
		t.Helper()

		types := []string{"broadcast", "individual"}
		for _, m := range corpus() {
			types = append(types, m.event)
		}

		page := browsertest.Start(t, kind).Open(t, pages+"?"+url.Values{"url": {stream}, "types": {jsonOf(t, types)}}.Encode())

		return func(n int) (frames []frame, _ error) {
			page.Await(t, fmt.Sprintf("until(%d)", n), &frames)

			return frames, nil
		}
	}
}

// orDigest returns data, or its digest if it is long.
func orDigest(data string) string {
	if len(data) <= longData {
		return data
	}

	return fmt.Sprintf("SHA-256 %x", sha256.Sum256([]byte(data)))
}

// oraclePage serves a page that collects the events of an EventSource. The page
// reports digests of long data, because drivers pass on megabytes slowly.
func oraclePage(w http.ResponseWriter, _ *http.Request) {
	_, _ = fmt.Fprint(w, `<!doctype html><meta charset="utf-8"><title>Oracle</title><script>
		const query = new URLSearchParams(location.search);
		const frames = [];
		const orDigest = async (data) => {
			const bytes = new TextEncoder().encode(data);
			if (bytes.length <= `+strconv.Itoa(longData)+`) return data;
			const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
			return "SHA-256 " + [...sum].map((byte) => byte.toString(16).padStart(2, "0")).join("");
		};
		const summaries = () => Promise.all(frames.map(async (frame) => ({ ...frame, data: await orDigest(frame.data) })));
		let look = () => {};
		const until = (n) => new Promise((resolve) => {
			look = () => frames.length >= n && resolve(summaries());
			look();
		});
		const source = new EventSource(query.get("url"));
		for (const type of new Set(JSON.parse(query.get("types")))) {
			source.addEventListener(type, (event) => {
				if (!(event instanceof MessageEvent)) return; // its own open and error
				frames.push({ type: event.type, data: event.data, id: event.lastEventId });
				look();
			});
		}
	</script>`)
}

// inGoSSE is the client of github.com/tmaxmax/go-sse.
func inGoSSE(t *testing.T, stream string) func(int) ([]frame, error) {
	t.Helper()

	ctx, cancel := context.WithCancel(t.Context())
	frames, ended := make(chan frame), make(chan error, 1)

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, stream, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	connection := sse.NewConnection(request)
	connection.Buffer(nil, 16<<20) // the longest event that it accepts
	connection.SubscribeToAll(func(e sse.Event) {
		// Unlike the standard, it also dispatches blocks without data, such as
		// the retry field at the start of a stream.
		if e.Data == "" {
			return
		}

		select {
		case frames <- frame{e.Type, e.Data, e.LastEventID}:
		case <-ctx.Done():
		}
	})

	go func() { ended <- connection.Connect() }()

	t.Cleanup(func() {
		cancel()
		<-ended
	})

	return receive(frames)
}

// inEventSource is the client of github.com/launchdarkly/eventsource.
func inEventSource(t *testing.T, stream string) func(int) ([]frame, error) {
	t.Helper()

	events, err := eventsource.SubscribeWithURL(stream,
		eventsource.StreamOptionErrorHandler(func(error) eventsource.StreamErrorHandlerResult {
			return eventsource.StreamErrorHandlerResult{CloseNow: true}
		}))
	if err != nil {
		t.Fatal(err)
	}

	frames := make(chan frame)
	done := make(chan struct{})

	go func() {
		defer close(frames)

		for e := range events.Events {
			// As above, a block without data isn't an event.
			if e.Data() == "" {
				continue
			}

			id := ""
			if withID, ok := e.(eventsource.EventWithLastID); ok {
				id = withID.LastEventID()
			}

			select {
			case frames <- frame{e.Event(), e.Data(), id}:
			case <-done:
			}
		}
	}()

	t.Cleanup(func() {
		close(done)
		events.Close()
	})

	return receive(frames)
}

// receive returns a function that waits for n frames.
func receive(frames <-chan frame) func(n int) ([]frame, error) {
	return func(n int) ([]frame, error) {
		var got []frame

		deadline := time.After(patience)

		for len(got) < n {
			select {
			case f, ok := <-frames:
				if !ok {
					return nil, fmt.Errorf("stream closed after %d of %d events", len(got), n)
				}

				got = append(got, f)
			case <-deadline:
				return nil, fmt.Errorf("received %d of %d events in %s, the last %v", len(got), n, patience, got[max(0, len(got)-1):])
			}
		}

		return got, nil
	}
}
