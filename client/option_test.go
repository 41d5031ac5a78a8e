package client_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/client"
)

func TestOptionErrors(t *testing.T) {
	for _, test := range []struct {
		url     string
		options []client.Option
		want    string
	}{
		{"example.com/events", nil, `invalid URL "example.com/events"; want an http:// or https:// URL`},
		{"ftp://example.com", nil, `invalid URL "ftp://example.com"`},
		{"http://[::1", nil, "missing ']' in host"},
		{streamURL + "?a=%zz", nil, "invalid query"},
		{streamURL, []client.Option{client.WithTopics("a", "")}, `topic "" is empty`},
		{streamURL, []client.Option{client.WithTopics(manyTopics(101)...)}, "101 topics; want at most 100"},
		{streamURL + "?topic=a", []client.Option{client.WithTopics(manyTopics(100)...)}, "101 topics"},
		{streamURL, []client.Option{client.WithRewind(0)}, "WithRewind: 0 events; want 1 to 1000"},
		{streamURL, []client.Option{client.WithRewind(1001)}, "WithRewind: 1001 events"},
		{streamURL, []client.Option{client.WithSince(-time.Second)}, "WithSince: duration -1s; want more than 0"},
		{streamURL, []client.Option{client.WithSinceTime(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))}, "WithSinceTime: time 10000-"},
		{streamURL, []client.Option{client.WithSinceAll(), client.WithRewind(5)}, "since=all and rewind=5 are both given; want at most one start"},
		{streamURL + "?since=all", []client.Option{client.WithSince(time.Minute)}, "since=1m0s is given, and the URL has since=all; want at most one start"},
		{streamURL, []client.Option{client.WithPosition("a\n1")}, `WithPosition: invalid position "a\n1"`},
		{streamURL, []client.Option{client.WithPosition(" a")}, `invalid position " a"`},
		{streamURL, []client.Option{client.WithPosition(strings.Repeat("x", 2000))}, "has 2000 bytes; want at most 1024"},
		{streamURL, []client.Option{client.WithHTTPClient(nil)}, "the client is nil"},
		{streamURL, []client.Option{client.WithHTTPClient(&http.Client{Timeout: time.Minute})}, "timeout of 1m0s; want none"},
		{streamURL, []client.Option{client.WithToken(nil)}, "the source is nil"},
		{streamURL, []client.Option{client.WithHeader(http.Header{"accept": {"x"}})}, "accept can't be set"},
		{streamURL, []client.Option{client.WithHeader(http.Header{"Last-Event-ID": {"x"}})}, "Last-Event-ID can't be set"},
		{streamURL, []client.Option{client.WithHeader(http.Header{"a b": {"x"}})}, `invalid name "a b"`},
		{streamURL, []client.Option{client.WithHeader(http.Header{"X": {"s3cret\n"}})}, "the value of X contains a control character"},
		{streamURL, []client.Option{client.WithHeader(http.Header{"Authorization": {"Bearer s3cret"}}), client.WithToken((&tokens{}).next)}, "WithToken and an Authorization in WithHeader are both given"},
		{streamURL, []client.Option{client.WithMaxEventSize(0)}, "WithMaxEventSize: 0 bytes; want at least 1"},
		{streamURL, []client.Option{client.WithSilenceLimit(-1)}, "WithSilenceLimit: -1ns; want 0 or more"},
		{streamURL, []client.Option{client.WithBackoff(2, 1)}, "WithBackoff: 2ns and 1ns"},
	} {
		if _, err := client.Subscribe(t.Context(), test.url, test.options...); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("error %v, want %q", err, test.want)
		}
	}
}

func manyTopics(n int) []string {
	return slices.Repeat([]string{"t"}, n)
}

func TestRequests(t *testing.T) {
	at := time.Date(2026, 11, 27, 9, 30, 0, 5e8, time.FixedZone("", 3600))
	for _, test := range []struct {
		url     string
		options []client.Option
		want    string
		header  map[string]string
	}{
		{streamURL + "?topic=a&x=1#f", []client.Option{client.WithTopics("b.*"), client.WithTopics("c")}, streamURL + "?topic=a&topic=b.%2A&topic=c&x=1", nil},
		{streamURL, []client.Option{client.WithSince(90 * time.Second)}, streamURL + "?since=1m30s", nil},
		{streamURL, []client.Option{client.WithSinceTime(at)}, streamURL + "?since=2026-11-27T09%3A30%3A00.5%2B01%3A00", nil},
		{streamURL, []client.Option{client.WithSinceAll(), client.WithPosition("")}, streamURL + "?since=all", map[string]string{"Last-Event-ID": ""}},
		{streamURL, []client.Option{client.WithRewind(7), client.WithPosition("a-1")}, streamURL + "?rewind=7", map[string]string{"Last-Event-ID": "a-1"}},
		{streamURL, []client.Option{client.WithEnvelope()}, streamURL + "?envelope=1", nil},
		{
			streamURL, []client.Option{client.WithHeader(http.Header{"user-agent": {"me"}, "Authorization": {"Bearer t"}})}, streamURL,
			map[string]string{"User-Agent": "me", "Authorization": "Bearer t", "Accept": "text/event-stream", "Last-Event-ID": ""},
		},
	} {
		s := &server{replies: []reply{ended()}}
		sub, err := client.Subscribe(t.Context(), test.url, append(test.options, client.WithHTTPClient(&http.Client{Transport: s}))...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := collect(sub); err != nil {
			t.Fatal(err)
		}
		if got := s.requests[0].URL.String(); got != test.want {
			t.Errorf("URL %s, want %s", got, test.want)
		}
		for name, want := range test.header {
			if got := s.requests[0].Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", test.want, name, got, want)
			}
		}
	}
}
