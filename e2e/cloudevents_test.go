package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/binding"
	ce "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/pealdtest"
)

// cloudEvent returns an event with JSON as data.
func cloudEvent(tb testing.TB, id, subject string, extensions map[string]any) ce.Event {
	tb.Helper()

	e := ce.New()
	e.SetID(id)
	e.SetSource("https://example.com/shop")
	e.SetType("com.example.paid")
	if subject != "" {
		e.SetSubject(subject)
	}
	for name, value := range extensions {
		e.SetExtension(name, value)
	}
	if err := e.SetData(ce.ApplicationJSON, map[string]string{"id": id}); err != nil {
		tb.Fatal(err)
	}

	return e
}

// send sends a request, and decodes the response into reply.
func send(tb testing.TB, r *http.Request, reply any) (status int) {
	tb.Helper()

	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()

	body, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(body, reply); err != nil {
		tb.Fatalf("%s: %s: %v", resp.Status, body, err)
	}

	return resp.StatusCode
}

// TestCloudEvents sends events with the CloudEvents SDK in all content modes, and reads
// them from streams.
func TestCloudEvents(t *testing.T) {
	t.Parallel()

	d := pealdtest.Start(t, func(cfg *daemon.Config) { cfg.Auth.AnonymousTopics = []string{">"} })
	topic := inGoSSE(t, d.Events(t, "")+"?topic=orders.7")
	alice := inGoSSE(t, d.Events(t, "alice"))
	d.WaitForStreams(t, 2)

	type result struct {
		ID         string
		Recipients int
		Error      struct{ Reason string }
	}

	url := d.URL("/v1/cloudevents")
	ids := map[string]string{}
	publish := func(e ce.Event, encode func(r *http.Request) error, query string) {
		t.Helper()

		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+query, http.NoBody)
		if err == nil {
			err = encode(r)
		}
		if err != nil {
			t.Fatal(err)
		}

		var got result
		if status := send(t, r, &got); status != http.StatusOK || got.Recipients != 1 {
			t.Fatalf("event %s: status %d, %+v", e.ID(), status, got)
		}
		if previous, again := ids[e.ID()]; again && previous != got.ID {
			t.Errorf("event %s is published twice, as %s and %s", e.ID(), previous, got.ID)
		}
		ids[e.ID()] = got.ID
	}
	inBinary := func(e ce.Event) func(r *http.Request) error {
		return func(r *http.Request) error {
			return cehttp.WriteRequest(binding.WithForceBinary(t.Context()), binding.ToMessage(&e), r)
		}
	}
	inStructured := func(e ce.Event) func(r *http.Request) error {
		return func(r *http.Request) error {
			return cehttp.WriteRequest(binding.WithForceStructured(t.Context()), binding.ToMessage(&e), r)
		}
	}

	one := cloudEvent(t, "1", "orders.7", nil)
	publish(one, inBinary(one), "")
	publish(one, inStructured(one), "") // the same event again
	two := cloudEvent(t, "2", "a subject", map[string]any{"pealduserid": "alice", "pealdevent": "message", "other": 7})
	publish(two, inStructured(two), "?deliver=event")

	batch := []ce.Event{
		cloudEvent(t, "3", "orders.7", nil), cloudEvent(t, "4", "", nil), one, cloudEvent(t, "5", "", map[string]any{"pealdeveryone": true}),
	}
	r, err := cehttp.NewHTTPRequestFromEvents(t.Context(), url, batch)
	if err != nil {
		t.Fatal(err)
	}
	var results struct{ Results []result }
	if status := send(t, r, &results); status != http.StatusOK || len(results.Results) != len(batch) {
		t.Fatalf("status %d, %+v", status, results)
	}
	if got := results.Results; got[1].Error.Reason != "INVALID_FIELD" || got[2].ID != ids["1"] || got[3].Recipients != 2 {
		t.Errorf("the results are %+v", got)
	}
	ids["3"], ids["5"] = results.Results[0].ID, results.Results[3].ID

	five := frame{"com.example.paid", `{"id":"5"}`, ids["5"]}
	if got, err := topic(3); err != nil || !slices.Equal(got, []frame{
		{"com.example.paid", `{"id":"1"}`, ids["1"]}, {"com.example.paid", `{"id":"3"}`, ids["3"]}, five,
	}) {
		t.Errorf("the stream with a topic received %v, %v", got, err)
	}

	got, err := alice(2)
	if err != nil || got[1] != five {
		t.Fatalf("alice's stream received %v, %v", got, err)
	}

	var whole ce.Event
	if err := json.Unmarshal([]byte(got[0].Data), &whole); err != nil || strings.Contains(got[0].Data, "peald") ||
		whole.ID() != "2" || whole.Subject() != "a subject" || whole.Extensions()["other"] != int32(7) || string(whole.Data()) != `{"id":"2"}` {
		t.Errorf("alice's stream received %v, %v", got[0], err)
	}
}
