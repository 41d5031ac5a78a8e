package client_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/client"
)

// tokens is a token source that returns the tokens in order.
type tokens struct {
	left  []string
	calls int
}

func (s *tokens) next(context.Context) (string, error) {
	s.calls++
	if len(s.left) == 0 {
		return "", client.Permanent(errors.New("no more tokens"))
	}
	token := s.left[0]
	s.left = s.left[1:]
	return token, nil
}

func TestTokens(t *testing.T) {
	rejected, event := reply{status: 401, body: "the token has expired"}, reply{body: "data: x\n\n"}
	for name, test := range map[string]struct {
		replies []reply
		tokens  []string
		want    []string // tokens in the requests
		err     string
	}{
		"kept while it is accepted": {[]reply{event, event, ended()}, []string{"a"}, []string{"a", "a", "a"}, ""},
		"renewed":                   {[]reply{event, rejected, event, event, ended()}, []string{"a", "b"}, []string{"a", "a", "b", "b", "b"}, ""},
		"renewed again":             {[]reply{rejected, event, rejected, event, ended()}, []string{"a", "b", "c"}, []string{"a", "b", "b", "c", "c"}, ""},
		"rejected twice":            {[]reply{event, rejected, rejected}, []string{"a", "b", "c"}, []string{"a", "a", "b"}, "401 Unauthorized: the token has expired"},
		"renewed after a failure":   {[]reply{rejected, {err: errBroken}, rejected, event, ended()}, []string{"a", "b", "c"}, []string{"a", "b", "b", "c", "c"}, ""},
		"anonymous":                 {[]reply{event, ended()}, []string{""}, []string{"", ""}, ""},
		"no token":                  {[]reply{event}, nil, nil, "https://sse.example/events: get a token: no more tokens"},
		"malformed":                 {[]reply{event}, []string{"s3cret\n"}, nil, "get a token: the token contains a control character"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, source := &server{replies: test.replies}, &tokens{left: test.tokens}
			_, err := collect(s.subscribe(t, client.WithToken(source.next)))
			var got []string
			for _, r := range s.requests {
				got = append(got, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%s: tokens %q, want %q", name, got, test.want)
			}
			if (err == nil) != (test.err == "") || err != nil && (!strings.HasSuffix(err.Error(), test.err) || strings.Contains(err.Error(), "s3cret")) {
				t.Errorf("%s: error %v, want %q", name, err, test.err)
			}
		})
	}
}

// TestTokenSourceFails checks that an error of the token source is temporary.
func TestTokenSourceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, calls := &server{replies: []reply{ended()}}, 0
		var seen error
		_, err := collect(s.subscribe(t, client.WithToken(func(context.Context) (string, error) {
			if calls++; calls < 3 {
				return "", errBroken
			}
			return "a", nil
		}), client.WithOnRetry(func(err error, _ time.Duration) { seen = err })))
		if err != nil || calls != 3 || !errors.Is(seen, errBroken) {
			t.Errorf("error %v after %d calls; last reason %v", err, calls, seen)
		}
	})
}

// TestDelays checks the range of the delay after each failure.
func TestDelays(t *testing.T) {
	retry := func(ms int) reply { return reply{body: "retry: " + strconv.Itoa(ms) + "\n\n"} }
	event := func(n int) reply { return reply{body: "retry: 2000\nid: a-" + strconv.Itoa(n) + "\ndata: x\n\n"} }
	after := func(value string) reply { return reply{status: 503, header: http.Header{"Retry-After": {value}}} }
	down := reply{err: errBroken}
	type span struct{ least, most time.Duration }
	const s = time.Second
	for name, test := range map[string]struct {
		replies []reply
		want    []span
	}{
		"failures":                    {[]reply{down, down, down, down, down, down, down, ended()}, []span{{0, s}, {0, 2 * s}, {0, 4 * s}, {0, 8 * s}, {0, 16 * s}, {0, 30 * s}, {0, 30 * s}}},
		"refusals":                    {[]reply{retry(5000), retry(7000), ended()}, []span{{5 * s, 6 * s}, {7 * s, 9 * s}}},
		"streams":                     {[]reply{event(1), event(2), ended()}, []span{{2 * s, 2 * s}, {2 * s, 2 * s}}},
		"a failure after a stream":    {[]reply{down, down, event(1), down, down, ended()}, []span{{0, s}, {0, 2 * s}, {2 * s, 2 * s}, {2 * s, 3 * s}, {2 * s, 4 * s}}},
		"retry stays":                 {[]reply{retry(5000), down, {body: "data: x\n\n"}, ended()}, []span{{5 * s, 6 * s}, {5 * s, 7 * s}, {5 * s, 5 * s}}},
		"a stream without retry":      {[]reply{{body: "data: x\n\n"}, {body: "data: x\n\n"}, ended()}, []span{{0, s}, {0, s}}},
		"a stream with nothing new":   {[]reply{event(1), {body: "id: a-1\nevent: peald.mark\ndata:\n\n"}, ended()}, []span{{2 * s, 2 * s}, {2 * s, 3 * s}}},
		"Retry-After in seconds":      {[]reply{after("20"), ended()}, []span{{20 * s, 21 * s}}},
		"Retry-After as a date":       {[]reply{after("Sat, 01 Jan 2000 00:00:40 GMT"), ended()}, []span{{40 * s, 41 * s}}},
		"Retry-After in the past":     {[]reply{after("Sat, 01 Jan 1990 00:00:40 GMT"), ended()}, []span{{0, s}}},
		"Retry-After is limited":      {[]reply{after("99999999999999"), ended()}, []span{{time.Hour, time.Hour + s}}},
		"Retry-After too large":       {[]reply{after("99999999999999999999999"), ended()}, []span{{0, s}}},
		"retry is limited":            {[]reply{retry(99999999999999), ended()}, []span{{time.Hour, time.Hour + s}}},
		"Retry-After replaces retry":  {[]reply{event(1), after("1"), ended()}, []span{{2 * s, 2 * s}, {s, 2 * s}}},
		"a refusal repeats the id":    {[]reply{event(1), {body: "retry: 3000\nid: a-1\n\n"}, ended()}, []span{{2 * s, 2 * s}, {3 * s, 4 * s}}},
		"a status without a duration": {[]reply{{status: 502}, ended()}, []span{{0, s}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			server := &server{replies: test.replies}
			var delays []time.Duration
			if _, err := collect(server.subscribe(t, client.WithOnRetry(func(_ error, d time.Duration) { delays = append(delays, d) }))); err != nil {
				t.Fatal(err)
			}
			if len(delays) != len(test.want) {
				t.Fatalf("%s: delays %s, want %d", name, delays, len(test.want))
			}
			for i, want := range test.want {
				if delays[i] < want.least || delays[i] > want.most+time.Nanosecond || server.at[i+1].Sub(server.at[i]) != delays[i] {
					t.Errorf("%s: delay %d is %s, want %s to %s; it took %s", name, i, delays[i], want.least, want.most, server.at[i+1].Sub(server.at[i]))
				}
			}
		})
	}
}

// TestJitter checks that delays differ.
func TestJitter(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			server := &server{replies: []reply{{err: errBroken}, ended()}}
			_, _ = collect(server.subscribe(t, client.WithOnRetry(func(_ error, d time.Duration) { seen[d] = true })))
		})
	}
	if len(seen) < 15 {
		t.Errorf("%d different delays out of 20", len(seen))
	}
}

// TestLongStream checks that a stream that was idle for long counts as a success.
func TestLongStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := &server{replies: []reply{{body: "retry: 4000\n\n", hangs: true}, ended()}}
		var got time.Duration
		_, err := collect(first.subscribe(t, client.WithOnRetry(func(_ error, d time.Duration) { got = d })))
		if err != nil || got != 4*time.Second {
			t.Errorf("delay %s, error %v, want 4s", got, err)
		}
	})
}

// TestSilence checks that a silent connection is replaced, and only while it is the
// connection that is slow.
func TestSilence(t *testing.T) {
	const limit = 10 * time.Second
	for name, test := range map[string]struct {
		reply  reply
		silent bool
	}{
		"no response":     {reply{after: time.Hour}, true},
		"slow response":   {reply{after: 9 * time.Second, body: "data: x\n\n"}, false},
		"no first event":  {reply{hangs: true}, true},
		"no second event": {reply{body: "data: x\n\n", hangs: true}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{replies: []reply{test.reply, ended()}}
			var reason error
			for _, err := range s.subscribe(t, client.WithSilenceLimit(limit), client.WithOnRetry(func(err error, _ time.Duration) { reason = err })).Events() {
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour) // the loop may take as long as it likes
			}
			if errors.Is(reason, client.ErrSilent) != test.silent {
				t.Errorf("%s: reconnected because of %v", name, reason)
			}
			if test.silent && !strings.HasSuffix(reason.Error(), "nothing received for 10s") {
				t.Errorf("%s: reason %q", name, reason)
			}
		})
	}

	synctest.Test(t, func(t *testing.T) {
		s := &server{replies: []reply{{hangs: true}, ended()}}
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		sub, err := client.Subscribe(ctx, streamURL, client.WithHTTPClient(&http.Client{Transport: s}), client.WithSilenceLimit(0))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := collect(sub); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a limit: error %v", err)
		}
	})
}
