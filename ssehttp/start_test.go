package ssehttp_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// FuzzStart checks that a start in a query is either rejected or as documented.
func FuzzStart(f *testing.F) {
	for _, value := range []string{"", "all", "90s", "1h30m", "0s", "-5m", "2026-11-27T09:30:00Z", "2026-11-27T09:30:00+01:00", "e-1", "1", "1000", "1001", "\xff"} {
		f.Add("since", value)
		f.Add("rewind", value)
		f.Add("last_event_id", value)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		query := url.Values{name: {value}}
		id, start, err := ssehttp.StartOf(http.Header{}, query)
		known := name == "since" || name == "rewind" || name == "last_event_id" && value != ""
		switch {
		case err != nil && (!known || id != "" || start != broker.Start{}):
			t.Fatalf("%s=%q: %v with %q, %v", name, value, err, id, start)
		case err == nil && known && (id == "") == (start == broker.Start{}):
			t.Fatalf("%s=%q starts after %q at %v", name, value, id, start)
		case id != "" && (id != value || broker.ValidEventID(id) != nil):
			t.Fatalf("%s=%q has the id %q", name, value, id)
		}
		if !known {
			return
		}

		for _, other := range []string{"since", "rewind", "last_event_id"} {
			both := url.Values{name: {value}, other: {"e-1"}}
			if _, _, err := ssehttp.StartOf(http.Header{}, both); other != name && err == nil {
				t.Fatalf("%v is accepted", both)
			}
		}
		if id, _, err := ssehttp.StartOf(http.Header{"Last-Event-Id": {"e-7"}}, query); id != "e-7" || err != nil {
			t.Fatalf("%s=%q with a header: %q, %v", name, value, id, err)
		}
	})
}
