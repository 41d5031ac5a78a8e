package rest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control"
	"github.com/peald/peald/control/rest"
)

func TestInvalidRequests(t *testing.T) {
	s := startServer(t, control.Config{}, &fakeBroker{}, stubMinter{})
	long := strings.Repeat("x", rest.MaxBody)

	for name, c := range map[string]struct {
		method, path, body string
		header             []string
		status             int
		code               codes.Code
		reason             string
		field              string
		contains           []string
	}{
		"truncated JSON":        {"POST", "/v1/broadcast", `{"data":"hi"`, nil, 400, 3, "INVALID_REQUEST", "", []string{"not JSON", "byte 12"}},
		"trailing comma":        {"POST", "/v1/broadcast", `{"data":"hi",}`, nil, 400, 3, "INVALID_REQUEST", "", []string{"not JSON", "byte 14"}},
		"two objects":           {"POST", "/v1/broadcast", `{"data":"a"}{"data":"b"}`, nil, 400, 3, "INVALID_REQUEST", "", []string{"not JSON", "byte 13"}},
		"an array":              {"POST", "/v1/broadcast", `[{"data":"a"}]`, nil, 400, 3, "INVALID_REQUEST", "", []string{"array", "object"}},
		"a string":              {"POST", "/v1/broadcast", `"hi"`, nil, 400, 3, "INVALID_REQUEST", "", []string{"string", "object"}},
		"null":                  {"POST", "/v1/broadcast", `null`, nil, 400, 3, "INVALID_REQUEST", "", []string{"the body is a JSON null; want an object"}},
		"a real form":           {"POST", "/v1/broadcast", `data=hi&event=x`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, 3, "INVALID_REQUEST", "", []string{"not JSON", "byte 1"}},
		"binary":                {"POST", "/v1/broadcast", "\x1f\x8b\x08\x00", nil, 400, 3, "INVALID_REQUEST", "", []string{"not JSON"}},
		"unknown field":         {"POST", "/v1/broadcast", `{"data":"hi","colour":"red"}`, nil, 400, 3, "INVALID_FIELD", "colour", []string{"colour", "not a field"}},
		"unknown with controls": {"POST", "/v1/broadcast", `{"data":"hi","a \n\u0000b":1}`, nil, 400, 3, "INVALID_FIELD", "a \n\x00b", []string{`"a \n\x00b"`, "not a field"}},
		"unknown, not UTF-8":    {"POST", "/v1/broadcast", "{\"data\":\"hi\",\"\xff\":1}", nil, 400, 3, "INVALID_FIELD", "\uFFFD", []string{"not a field"}},
		"unknown, very long":    {"POST", "/v1/broadcast", `{"` + strings.Repeat("y", 5000) + `":1}`, nil, 400, 3, "INVALID_FIELD", strings.Repeat("y", 80) + "…", []string{"not a field"}},
		"duplicate field":       {"POST", "/v1/broadcast", `{"data":"a","data":"b"}`, nil, 400, 3, "INVALID_FIELD", "data", []string{"data", "more than once"}},
		"both names":            {"POST", "/v1/tokens", `{"userId":"a","user_id":"b"}`, nil, 400, 3, "INVALID_FIELD", "user_id", []string{"user_id", "more than once"}},
		"data a number":         {"POST", "/v1/broadcast", `{"data":7}`, nil, 400, 3, "INVALID_FIELD", "data", []string{"data is 7; want a JSON string"}},
		"data an object":        {"POST", "/v1/broadcast", `{"data":{"a": 1}}`, nil, 400, 3, "INVALID_FIELD", "data", []string{`data is {"a":1}; want a JSON string`}},
		"data a long list":      {"POST", "/v1/broadcast", `{"data":["` + strings.Repeat("x", 100) + `"]}`, nil, 400, 3, "INVALID_FIELD", "data", []string{strings.Repeat("x", 78) + "…; want a JSON string"}},
		"retain a string":       {"POST", "/v1/broadcast", `{"data":"x","retain":"yes"}`, nil, 400, 3, "INVALID_FIELD", "retain", []string{`retain is "yes"; want true or false`}},
		"retained a word":       {"GET", "/v1/broadcast?retained=yes", "", nil, 400, 3, "INVALID_FIELD", "retained", []string{`retained is "yes"; want true or false`}},
		"data not UTF-8":        {"POST", "/v1/broadcast", "{\"data\":\"a\xff\"}", nil, 400, 3, "INVALID_FIELD", "data", []string{"data", "not valid UTF-8"}},
		"half a surrogate":      {"POST", "/v1/broadcast", `{"data":"\ud83e"}`, nil, 400, 3, "INVALID_FIELD", "data", []string{"data", "escape"}},
		"unknown, with path":    {"POST", "/v1/users/alice/messages", `{"date":"hi"}`, nil, 400, 3, "INVALID_FIELD", "date", []string{"date"}},
		"user not UTF-8":        {"POST", "/v1/users/a%FFb/messages", `{"data":"hi"}`, nil, 400, 3, "INVALID_FIELD", "user_id", []string{"user_id", "not valid UTF-8"}},
		"user in the body":      {"POST", "/v1/users/alice/messages", `{"data":"hi","userId":"bob"}`, nil, 400, 3, "INVALID_FIELD", "user_id", []string{"user_id", "path"}},
		"same user in the body": {"POST", "/v1/users/alice:disconnect", `{"user_id":"alice"}`, nil, 400, 3, "INVALID_FIELD", "user_id", []string{"user_id", "path"}},
		"topic in the body":     {"POST", "/v1/topics/a/messages", `{"data":"hi","topic":"b"}`, nil, 400, 3, "INVALID_FIELD", "topic", []string{"topic", "path"}},
		"ttl as 1h":             {"POST", "/v1/tokens", `{"userId":"alice","ttl":"1h"}`, nil, 400, 3, "INVALID_FIELD", "ttl", []string{"ttl", `"3600s"`}},
		"ttl a number":          {"POST", "/v1/tokens", `{"userId":"alice","ttl":3600}`, nil, 400, 3, "INVALID_FIELD", "ttl", []string{"ttl", `"3600s"`}},
		"query on a POST":       {"POST", "/v1/broadcast?event=x", `{"data":"hi"}`, nil, 400, 3, "INVALID_FIELD", "event", []string{"event", "query"}},
		"query on Stats":        {"GET", "/v1/stats?shard=1", "", nil, 400, 3, "INVALID_FIELD", "shard", []string{"shard", "query"}},
		"unknown parameter":     {"GET", "/v1/users?limit=5", "", nil, 400, 3, "INVALID_FIELD", "limit", []string{"limit", "not a parameter"}},
		"page_size a word":      {"GET", "/v1/users?page_size=many", "", nil, 400, 3, "INVALID_FIELD", "page_size", []string{"page_size", `"many"`, "number"}},
		"page_size huge":        {"GET", "/v1/users?page_size=99999999999", "", nil, 400, 3, "INVALID_FIELD", "page_size", []string{"page_size", "number"}},
		"page_size twice":       {"GET", "/v1/users?page_size=1&page_size=2", "", nil, 400, 3, "INVALID_FIELD", "page_size", []string{"page_size", "more than once"}},
		"page_size both names":  {"GET", "/v1/users?page_size=1&pageSize=2", "", nil, 400, 3, "INVALID_FIELD", "page_size", []string{"page_size", "more than once"}},
		"page_size too large":   {"GET", "/v1/users?page_size=1001", "", nil, 400, 3, "INVALID_FIELD", "page_size", []string{"page_size", "1001", "1000"}},
		"page_size negative":    {"GET", "/v1/users?pageSize=-1", "", nil, 400, 3, "INVALID_FIELD", "page_size", []string{"page_size", "-1"}},
		"page_token invalid":    {"GET", "/v1/users?page_token=2", "", nil, 400, 3, "INVALID_FIELD", "page_token", []string{"page_token"}},
		"prefix not UTF-8":      {"GET", "/v1/users?prefix=%ff", "", nil, 400, 3, "INVALID_FIELD", "prefix", []string{"prefix", "not valid UTF-8"}},
		"map syntax":            {"GET", "/v1/users?prefix[a]=b", "", nil, 400, 3, "INVALID_FIELD", "prefix[a]", []string{"not a parameter"}},
		"bad escape in query":   {"GET", "/v1/users?prefix=%zz", "", nil, 400, 3, "INVALID_REQUEST", "", []string{"query", "%zz"}},
		"body over the limit":   {"POST", "/v1/broadcast", `{"data":"` + long + `"}`, nil, 413, 8, "REQUEST_TOO_LARGE", "", []string{"4194304"}},
		"multipart":             {"POST", "/v1/broadcast", `--x`, []string{"Content-Type", "multipart/form-data; boundary=x"}, 415, 3, "UNSUPPORTED_MEDIA_TYPE", "", []string{"multipart/form-data", "application/json"}},
		"protobuf":              {"POST", "/v1/broadcast", "\n\x02hi", []string{"Content-Type", "application/x-protobuf"}, 415, 3, "UNSUPPORTED_MEDIA_TYPE", "", []string{"application/json"}},
		"invalid media type":    {"POST", "/v1/broadcast", `{}`, []string{"Content-Type", "///"}, 415, 3, "UNSUPPORTED_MEDIA_TYPE", "", []string{"application/json"}},
		"topic twice":           {"GET", "/v1/topics/a/messages?topic=b", "", nil, 400, 3, "INVALID_FIELD", "topic", []string{"topic", "path"}},
		"user of a topic":       {"GET", "/v1/topics/a/messages?userId=b", "", nil, 400, 3, "INVALID_FIELD", "user_id", []string{"user_id", "path"}},
		"topic of broadcasts":   {"GET", "/v1/broadcast?topic=a", "", nil, 400, 3, "INVALID_FIELD", "topic", []string{"topic", "path"}},
		"order":                 {"GET", "/v1/broadcast?order=NEWEST", "", nil, 400, 3, "INVALID_FIELD", "order", []string{`"NEWEST"`, "oldest or newest"}},
		"order twice":           {"GET", "/v1/broadcast?order=newest&order=oldest", "", nil, 400, 3, "INVALID_FIELD", "order", []string{"more than once"}},
		"retained":              {"GET", "/v1/broadcast?retained=yes", "", nil, 400, 3, "INVALID_FIELD", "retained", []string{"retained", `"yes"`}},
		"after_id":              {"GET", "/v1/broadcast?after_id=7", "", nil, 400, 3, "INVALID_FIELD", "after_id", []string{`after_id is "7"`, "EPOCH-SEQUENCE"}},
		"pattern":               {"GET", "/v1/topics/a.*/messages", "", nil, 400, 3, "INVALID_FIELD", "topic", []string{"pattern"}},
		"token of messages":     {"GET", "/v1/broadcast?page_token=YQ", "", nil, 400, 3, "INVALID_FIELD", "page_token", []string{"page_token"}},
		"unknown path":          {"GET", "/v1/nothing", "", nil, 404, 5, "UNKNOWN_PATH", "", []string{"/openapi.json"}},
		"root":                  {"GET", "/", "", nil, 404, 5, "UNKNOWN_PATH", "", nil},
		"/v1":                   {"GET", "/v1", "", nil, 404, 5, "UNKNOWN_PATH", "", nil},
		"trailing slash":        {"GET", "/v1/users/", "", nil, 404, 5, "UNKNOWN_PATH", "", nil},
		"user without verb":     {"POST", "/v1/users/alice", "{}", nil, 404, 5, "UNKNOWN_PATH", "", nil},
		"topics a string":       {"POST", "/v1/tokens", `{"userId":"alice","topics":"a"}`, nil, 400, 3, "INVALID_FIELD", "topics", []string{"topics", "list of JSON strings"}},
		"topics of numbers":     {"POST", "/v1/tokens", `{"userId":"alice","topics":[1]}`, nil, 400, 3, "INVALID_FIELD", "topics", []string{"topics", "list of JSON strings"}},
		"a topic not UTF-8":     {"POST", "/v1/tokens", "{\"userId\":\"alice\",\"topics\":[\"\xff\"]}", nil, 400, 3, "INVALID_FIELD", "topics", []string{"topics", "not valid UTF-8"}},
		"path not UTF-8":        {"POST", "/v1/topics/a%FFb/messages", `{"data":"hi"}`, nil, 400, 3, "INVALID_FIELD", "topic", []string{"topic", "not valid UTF-8"}},
		"ttl of a message":      {"POST", "/v1/broadcast", `{"data":"hi","ttl":"soon"}`, nil, 400, 3, "INVALID_FIELD", "ttl", []string{"ttl", `"3600s"`}},
		"for as 1h":             {"POST", "/v1/users/alice:disconnect", `{"for":"1h"}`, nil, 400, 3, "INVALID_FIELD", "for", []string{"for", `"3600s"`}},
		"unknown, of topics":    {"GET", "/v1/topics?limit=5", "", nil, 400, 3, "INVALID_FIELD", "limit", []string{"limit", "not a parameter"}},
		"page_size of topics":   {"GET", "/v1/topics?page_size=1001", "", nil, 400, 3, "INVALID_FIELD", "page_size", []string{"page_size", "1001", "1000"}},
		"empty user":            {"POST", "/v1/users/:disconnect", "{}", nil, 404, 5, "UNKNOWN_PATH", "", nil},
		"escaped verb":          {"POST", "/v1/users/alice%3Adisconnect", "{}", nil, 404, 5, "UNKNOWN_PATH", "", nil},
		"unknown verb":          {"POST", "/v1/users/alice:connect", "{}", nil, 404, 5, "UNKNOWN_PATH", "", nil},
		"two audiences":         {"POST", "/v1/messages", `{"everyone":true,"topic":"a","data":"hi"}`, nil, 400, 3, "INVALID_FIELD", "topic", []string{"topic can't be combined with everyone; set only one of them"}},
		"slash in a user":       {"POST", "/v1/users/a/b/messages", `{"data":"hi"}`, nil, 404, 5, "UNKNOWN_PATH", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.do(t, c.method, c.path, c.body, c.header...)
			f := got.failure(t)
			if got.StatusCode != c.status || f.code != c.code || f.reason != c.reason {
				t.Errorf("response %s %+v, want status %d, code %v and reason %s", got.Status, f, c.status, c.code, c.reason)
			}

			if c.field != "" && (len(f.fields) != 1 || f.fields[c.field] == "") {
				t.Errorf("invalid fields %q, want only %q", f.fields, c.field)
			}

			for _, word := range c.contains {
				if !strings.Contains(f.message, word) {
					t.Errorf("message %q doesn't contain %q", f.message, word)
				}
			}

			if len(f.message) > 400 {
				t.Errorf("message of %d bytes, want at most 400: %.400s", len(f.message), f.message)
			}
		})
	}
}

func TestAllInvalidFieldsAreNamed(t *testing.T) {
	s := startServer(t, control.Config{}, &fakeBroker{}, nil)

	f := s.do(t, "POST", "/v1/broadcast", `{"data":1,"event":2,"c":3}`).failure(t)
	if len(f.fields) != 3 {
		t.Errorf("%d invalid fields, want 3: %+v", len(f.fields), f)
	}

	f = s.do(t, "POST", "/v1/broadcast", `{"a":1`+strings.Repeat(`,"a":1`, 100_000)+`}`).failure(t)
	if len(f.message) > 1000 {
		t.Errorf("message of %d bytes, want at most 1000", len(f.message))
	}
}

func TestBodyOverTheLimitWithoutLength(t *testing.T) {
	s := startServer(t, control.Config{}, &fakeBroker{}, nil)
	body := io.MultiReader(strings.NewReader(`{"data":"`), strings.NewReader(strings.Repeat("x", rest.MaxBody)), strings.NewReader(`"}`))

	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/v1/broadcast", body)
	if err != nil {
		t.Fatal(err)
	}

	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()

	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %s, want 413", resp.Status)
	}
}

func TestEmptyBodyLacksData(t *testing.T) {
	s := startServer(t, control.Config{}, startBroker(t), nil)
	for _, body := range []string{"", " \r\n", "{}"} {
		got := s.do(t, "POST", "/v1/broadcast", body)
		if f := got.failure(t); got.StatusCode != http.StatusBadRequest || !strings.Contains(f.fields["data"], "empty") {
			t.Errorf("body %q: response %s %+v, want an error that data is empty", body, got.Status, f)
		}
	}
}

// curl -d sends JSON as a form, and fetch sends a string as plain text.
func TestContentTypes(t *testing.T) {
	s := startServer(t, control.Config{}, &fakeBroker{}, nil)
	for _, contentType := range []string{
		"", "application/json", "application/json; charset=utf-8", "Application/JSON", "application/problem+json",
		"application/x-www-form-urlencoded", "text/plain;charset=UTF-8",
	} {
		if got := s.do(t, "POST", "/v1/broadcast", `{"data":"hi"}`, "Content-Type", contentType); got.StatusCode != http.StatusOK {
			t.Errorf("Content-Type %q: response %s %s, want 200", contentType, got.Status, got.body)
		}
	}
}
