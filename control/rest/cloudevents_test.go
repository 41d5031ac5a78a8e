package rest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control"
	"github.com/peald/peald/control/rest"
	"github.com/peald/peald/internal/broker"
)

// recordingBroker records the messages that it accepts: those whose data isn't "reject".
type recordingBroker struct {
	fakeBroker

	mu       sync.Mutex
	messages []broker.Message
	err      error // the error for messages with the data "reject"
}

func (b *recordingBroker) Publish(_ context.Context, m broker.Message) (broker.Receipt, error) {
	b.mu.Lock()
	defer b.mu.Unlock()

	if err := m.Validate(); err != nil {
		return broker.Receipt{}, err
	}
	if m.Data == "reject" {
		return broker.Receipt{}, b.err
	}
	b.messages = append(b.messages, m)

	return broker.Receipt{ID: fmt.Sprint("e-", len(b.messages)), Recipients: 2}, nil
}

// event returns a CloudEvent in JSON. More has further members, starting with a comma.
func event(id, more string) string {
	return `{"specversion":"1.0","id":"` + id + `","source":"/shop","type":"paid"` + more + `}`
}

const (
	structured = "application/cloudevents+json"
	batched    = "application/cloudevents-batch+json"
)

// postEvents sends events with the given media type. Query may be empty.
func (s server) postEvents(tb testing.TB, query, contentType, body string, header ...string) response {
	tb.Helper()

	return s.do(tb, http.MethodPost, "/v1/cloudevents"+query, body, append([]string{"Content-Type", contentType}, header...)...)
}

func TestCloudEventsBecomeMessages(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		query, event string
		want         broker.Message
	}{
		"subject":   {"", `,"subject":"orders.7","data":{"n":1}`, broker.Message{Audience: broker.ToTopic("orders.7"), Event: "paid", Data: `{"n":1}`}},
		"extension": {"", `,"subject":"x","pealdtopic":"a","data":1`, broker.Message{Audience: broker.ToTopic("a"), Event: "paid", Data: "1"}},
		"user":      {"", `,"pealduserid":"alice","data":1`, broker.Message{Audience: broker.ToUser("alice"), Event: "paid", Data: "1"}},
		"everyone": {"", `,"pealdeveryone":true,"pealdexcludeuserid":"bob","data":1`,
			broker.Message{Audience: broker.Everyone(), ExcludeUser: "bob", Event: "paid", Data: "1"}},
		"options": {"", `,"subject":"a","pealdevent":"news","pealdttl":"90s","pealdretain":"true","pealdfinal":true,"pealdconflatekey":"k","data":1`,
			broker.Message{Audience: broker.ToTopic("a"), Event: "news", Data: "1", TTL: 90 * time.Second, Retain: true, Final: true, ConflateKey: "k"}},
		"query": {"?topic=a&event=message&ttl=60s&retain=true&conflate_key=k&excludeUserId=bob&final=false", `,"subject":"x","data":1`,
			broker.Message{Audience: broker.ToTopic("a"), Event: "message", Data: "1", TTL: time.Minute, Retain: true, ConflateKey: "k", ExcludeUser: "bob"}},
		"topics":           {"?topics=a&topics=b", `,"data":1`, broker.Message{Audience: broker.ToTopic("a"), Topics: []string{"b"}, Event: "paid", Data: "1"}},
		"user in query":    {"?user_id=alice", `,"data":1`, broker.Message{Audience: broker.ToUser("alice"), Event: "paid", Data: "1"}},
		"everyone, query":  {"?everyone=true", `,"pealdevent":"a","data":1`, broker.Message{Audience: broker.Everyone(), Event: "a", Data: "1"}},
		"whole":            {"?deliver=event", `,"subject":"a","pealdevent":"e"`, broker.Message{Audience: broker.ToTopic("a"), Event: "e", Data: event("1", `,"subject":"a"`)}},
		"data, explicitly": {"?deliver=data", `,"subject":"a","datacontenttype":"text/plain","data":"x"`, broker.Message{Audience: broker.ToTopic("a"), Event: "paid", Data: "x"}},
	} {
		b := &recordingBroker{}
		s := startServer(t, control.Config{}, b, nil)

		got := s.postEvents(t, test.query, structured, event("1", test.event))
		if got.StatusCode != http.StatusOK || got.body != `{"id":"e-1","recipients":2}`+"\n" {
			t.Errorf("%s: response %s %s", name, got.Status, got.body)
			continue
		}

		m := b.messages[0]
		if !strings.HasPrefix(m.IdempotencyKey, "cloudevents:") {
			t.Errorf("%s: key %q", name, m.IdempotencyKey)
		}
		if m.IdempotencyKey = ""; !reflect.DeepEqual(m, test.want) {
			t.Errorf("%s: message %+v, want %+v", name, m, test.want)
		}
	}
}

func TestCloudEventsAreRejected(t *testing.T) {
	t.Parallel()

	b := &recordingBroker{}
	s := startServer(t, control.Config{}, b, nil)

	for name, test := range map[string]struct {
		query, contentType, body string
		header                   []string
		status                   int
		reason, field, message   string
	}{
		"no audience":    {"", structured, event("1", `,"data":1`), nil, 400, "INVALID_FIELD", "subject", "subject is missing; set it or the extension attribute pealdtopic"},
		"topic and user": {"", structured, event("1", `,"pealdtopic":"a","pealduserid":"b","data":1`), nil, 400, "INVALID_FIELD", "pealduserid", "pealduserid can't be combined with pealdtopic; set only one of them"},
		"in both":        {"?topic=a", structured, event("1", `,"pealduserid":"b","data":1`), nil, 400, "INVALID_FIELD", "pealduserid", "pealduserid is set by the query and must not be in the event"},
		"topics in both": {"?topics=a", structured, event("1", `,"pealdtopic":"b","data":1`), nil, 400, "INVALID_FIELD", "pealdtopic", ""},
		"event in both":  {"?event=a", structured, event("1", `,"subject":"a","pealdevent":"b","data":1`), nil, 400, "INVALID_FIELD", "pealdevent", ""},
		"both in query":  {"?topic=a&user_id=b", structured, event("1", `,"data":1`), nil, 400, "INVALID_FIELD", "user_id", "user_id can't be combined with topic; set only one of them"},
		"unknown":        {"", structured, event("1", `,"subject":"a","pealdtopics":"a","data":1`), nil, 400, "INVALID_FIELD", "pealdtopics", "pealdtopics is not an attribute that peald knows; want pealdconflatekey, pealdevent, "},
		"misspelled":     {"?topik=a", structured, event("1", ""), nil, 400, "INVALID_FIELD", "topik", "topik is not a parameter of this call"},
		"data in query":  {"?data=a", structured, event("1", ""), nil, 400, "INVALID_FIELD", "data", "data is set by the event and must not be in the query"},
		"key in query":   {"?idempotencyKey=a", structured, event("1", ""), nil, 400, "INVALID_FIELD", "idempotencyKey", ""},
		"deliver":        {"?deliver=all", structured, event("1", ""), nil, 400, "INVALID_FIELD", "deliver", `deliver is "all"; want "data" or "event"`},
		"deliver twice":  {"?deliver=data&deliver=data", structured, event("1", ""), nil, 400, "INVALID_FIELD", "deliver", ""},
		"malformed":      {"?a=%zz", structured, event("1", ""), nil, 400, "INVALID_REQUEST", "", "malformed query"},
		"ttl":            {"", structured, event("1", `,"subject":"a","pealdttl":"soon","data":1`), nil, 400, "INVALID_FIELD", "pealdttl", `pealdttl is "soon"; want a duration in seconds, such as "3600s"`},
		"retain":         {"", structured, event("1", `,"subject":"a","pealdretain":"maybe","data":1`), nil, 400, "INVALID_FIELD", "pealdretain", ""},
		"not everyone":   {"", structured, event("1", `,"pealdeveryone":false,"data":1`), nil, 400, "INVALID_FIELD", "pealdeveryone", "pealdeveryone is false"},
		"no data":        {"", structured, event("1", `,"subject":"a"`), nil, 400, "INVALID_FIELD", "data", "data is missing; to deliver the whole event"},
		"binary":         {"", structured, event("1", `,"subject":"a","datacontenttype":"image/png","data_base64":"/w=="`), nil, 400, "INVALID_FIELD", "data", `data is not valid UTF-8 (datacontenttype "image/png")`},
		// Errors from the call itself name the attributes.
		"pattern":        {"", structured, event("1", `,"subject":"a.*","data":1`), nil, 400, "INVALID_FIELD", "subject", `subject `},
		"user too long":  {"", structured, event("1", `,"pealduserid":"`+strings.Repeat("x", 256)+`","data":1`), nil, 400, "INVALID_FIELD", "pealduserid", `pealduserid `},
		"topic in query": {"?topic=a.*", structured, event("1", `,"data":1`), nil, 400, "INVALID_FIELD", "topic", `topic `},
		"reserved type":  {"", structured, strings.Replace(event("1", `,"subject":"a","data":1`), "paid", "peald.x", 1), nil, 400, "INVALID_FIELD", "type", `type is "peald.x"`},
		"too large":      {"", structured, event("1", `,"subject":"a","data":"`+strings.Repeat("x", broker.MaxData)+`"`), nil, 400, "INVALID_FIELD", "data", ""},
		"larger":         {"", structured, strings.Repeat("x", rest.MaxBody+1), nil, 413, "REQUEST_TOO_LARGE", "", ""},
		"gzip":           {"", structured, "\x1f\x8b", []string{"Content-Encoding", "gzip"}, 415, "UNSUPPORTED_MEDIA_TYPE", "", ""},
		"media type":     {"", "multipart/form-data; boundary=x", "{}", nil, 415, "UNSUPPORTED_MEDIA_TYPE", "", "the request has Content-Type"},
		"invalid":        {"", structured, "{}", nil, 400, "INVALID_FIELD", "specversion", ""},
		"batch":          {"", batched, "{}", nil, 400, "INVALID_REQUEST", "", "the body is a JSON object; want an array of events"},
		"large batch":    {"", batched, "[1" + strings.Repeat(",1", rest.MaxBatch) + "]", nil, 400, "INVALID_REQUEST", "", "the batch has more than 1000 events"},
		"repeated":       {"", "text/plain", "x", []string{"ce-specversion", "1.0", "ce-id", "1", "ce-id", "1"}, 400, "INVALID_FIELD", "id", "id is given more than once"},
		"another origin": {"", structured, event("1", ""), []string{"Sec-Fetch-Site", "cross-site"}, 403, "FOREIGN_ORIGIN", "", ""},
	} {
		got := s.postEvents(t, test.query, test.contentType, test.body, test.header...)
		f := got.failure(t)
		if got.StatusCode != test.status || f.reason != test.reason || !strings.Contains(f.message, test.message) {
			t.Errorf("%s: response %s %s", name, got.Status, got.body)
		}
		if text := f.fields[test.field]; test.field != "" && !strings.HasPrefix(text, test.field+" ") {
			t.Errorf("%s: fields %q, want %s", name, f.fields, test.field)
		}
	}

	if len(b.messages) > 0 {
		t.Errorf("%d messages were published", len(b.messages))
	}
}

// batchResults parses the response to a batch.
func batchResults(t *testing.T, got response) (results []struct {
	ID    *string
	Error *struct {
		Code            codes.Code
		Message, Reason string
		FieldViolations []struct{ Field string }
	}
}) {
	t.Helper()

	var reply struct{ Results json.RawMessage }
	if err := json.Unmarshal([]byte(got.body), &reply); err != nil || got.StatusCode != http.StatusOK {
		t.Fatalf("response %s %s: %v", got.Status, got.body, err)
	}
	if err := json.Unmarshal(reply.Results, &results); err != nil {
		t.Fatal(err)
	}

	return results
}

func TestBatchOfCloudEvents(t *testing.T) {
	t.Parallel()

	b := &recordingBroker{err: broker.ErrKeyUsed}
	s := startServer(t, control.Config{}, b, nil)

	// The events take several calls.
	large := strings.Repeat("x", 900_000)
	events := []string{
		event("1", `,"subject":"a","data":"`+large+`"`), `{"id":1}`, event("3", `,"subject":"a","data":"`+large+`"`),
		event("4", `,"subject":"a","data":"`+large+`"`), event("5", `,"data":1`), event("6", `,"subject":"a.*","data":1`),
		event("7", `,"subject":"a","datacontenttype":"text/plain","data":"reject"`), event("8", `,"subject":"a","data":8`),
	}
	results := batchResults(t, s.postEvents(t, "", batched, "["+strings.Join(events, ",")+"]"))

	want := []string{"e-1", "id", "e-2", "e-3", "subject", "subject", "IDEMPOTENCY_KEY_USED", "e-4"}
	var have []string
	for _, r := range results {
		switch {
		case r.ID != nil:
			have = append(have, *r.ID)
		case len(r.Error.FieldViolations) > 0:
			have = append(have, r.Error.FieldViolations[0].Field)
		default:
			have = append(have, r.Error.Reason)
		}
	}
	if !slices.Equal(have, want) {
		t.Errorf("the results are %q, want %q", have, want)
	}

	if got := s.postEvents(t, "", batched, "[]"); got.StatusCode != http.StatusOK || got.body != `{"results":[]}`+"\n" {
		t.Errorf("an empty batch: %s %s", got.Status, got.body)
	}
}

// If the event log is unavailable, the sender must repeat the batch.
func TestBatchIsRepeatedWhileTheLogIsUnavailable(t *testing.T) {
	t.Parallel()

	b := &recordingBroker{err: &broker.UnavailableError{Reason: "no leader"}}
	s := startServer(t, control.Config{}, b, nil)

	body := "[" + event("1", `,"subject":"a","data":1`) + "," + event("2", `,"subject":"a","datacontenttype":"text/plain","data":"reject"`) + "]"
	got := s.postEvents(t, "", batched, body)
	if f := got.failure(t); got.StatusCode != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" ||
		f.reason != "LOG_UNAVAILABLE" || f.message != "no leader; send the batch again" {
		t.Errorf("response %s %v %s", got.Status, got.Header, got.body)
	}
}

func TestCloudEventsNeedATokenWithItsScope(t *testing.T) {
	t.Parallel()

	b := &recordingBroker{}
	s := startServer(t, control.Config{Tokens: []control.Token{
		{Name: "shop", Token: "shop's token", Scopes: []string{control.ScopePublish}},
		{Name: "ops", Token: "ops's token", Scopes: []string{control.ScopeRead}},
	}}, b, nil)

	valid := event("1", `,"subject":"a","data":1`)
	for body, contentType := range map[string]string{valid: structured, "[" + valid + "]": batched, "[{}]": batched, "[]": batched} {
		if got := s.postEvents(t, "", contentType, body); got.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s without a token: %s %s", body, got.Status, got.body)
		}
		if got := s.postEvents(t, "", contentType, body, "Authorization", "Bearer ops's token"); got.StatusCode != http.StatusForbidden && body != "[]" {
			t.Errorf("%s without the scope: %s %s", body, got.Status, got.body)
		}
		if got := s.postEvents(t, "", contentType, body, "Authorization", "Bearer shop's token"); got.StatusCode != http.StatusOK {
			t.Errorf("%s with the token: %s %s", body, got.Status, got.body)
		}
	}
}

func TestWebHookValidation(t *testing.T) {
	t.Parallel()

	s := startServer(t, control.Config{RateLimit: 20, Tokens: []control.Token{{Name: "shop", Token: "shop's token"}}}, &fakeBroker{}, nil)

	got := s.do(t, http.MethodOptions, "/v1/cloudevents?topic=a", "", "WebHook-Request-Origin", "example.com", "WebHook-Request-Rate", "100")
	if got.StatusCode != http.StatusOK || got.Header.Get("Webhook-Allowed-Origin") != "*" || got.Header.Get("Webhook-Allowed-Rate") != "1200" ||
		got.Header.Get("Allow") != "POST, OPTIONS" {
		t.Errorf("response %s %v", got.Status, got.Header)
	}

	s = startServer(t, control.Config{}, &fakeBroker{}, nil)
	got = s.do(t, http.MethodOptions, "/v1/cloudevents", "", "WebHook-Request-Origin", "example.com")
	if got.StatusCode != http.StatusOK || got.Header.Get("Webhook-Allowed-Rate") != "" {
		t.Errorf("without a rate: response %s %v", got.Status, got.Header)
	}
	if got = s.do(t, http.MethodOptions, "/v1/cloudevents", ""); got.failure(t).reason != "INVALID_FIELD" {
		t.Errorf("without an origin: response %s %s", got.Status, got.body)
	}
	if got = s.do(t, http.MethodGet, "/v1/cloudevents", ""); got.StatusCode != http.StatusMethodNotAllowed || got.Header.Get("Allow") != "POST, OPTIONS" {
		t.Errorf("GET: response %s %v", got.Status, got.Header)
	}
}

// FuzzCloudEventQuery checks that the query never causes anything but a message or an
// error of the caller.
func FuzzCloudEventQuery(f *testing.F) {
	for _, query := range []string{"", "topic=a", "topics=a&topics=b", "everyone=true", "everyone=false", "user_id=%ff", "ttl=1s&deliver=event", "ttl=-1s", "a=%zz", "retain=1"} {
		f.Add(query, "pealdtopic", "a")
		f.Add(query, "pealdttl", "9e9s")
	}

	s := startServer(f, control.Config{}, &recordingBroker{}, nil)

	f.Fuzz(func(t *testing.T, query, name, value string) {
		encoded, err := json.Marshal(map[string]string{"specversion": "1.0", "id": "1", "source": "/", "type": "t", "subject": "s", "data": "x", name: value})
		if err != nil {
			t.Fatal(err)
		}

		address := (&url.URL{Path: "/v1/cloudevents", RawQuery: query}).RequestURI()
		if _, err := url.ParseRequestURI(address); err != nil {
			t.Skip()
		}

		got := s.do(t, http.MethodPost, address, string(encoded), "Content-Type", structured)
		if got.StatusCode != http.StatusOK && got.StatusCode != http.StatusBadRequest {
			t.Errorf("?%s with %s=%q: response %s %s", query, name, value, got.Status, got.body)
		}
	})
}
