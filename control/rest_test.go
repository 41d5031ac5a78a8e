package control_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/broker"
)

func TestRESTBadInput(t *testing.T) {
	p := start(t, control.Config{}, &fake{}, stubMinter{})
	long := strings.Repeat("x", control.MaxRequest)
	for name, c := range map[string]struct {
		method, path, body string
		header             []string
		status             int
		code               codes.Code
		reason             string
		field              string
		says               []string
	}{
		"cut off":              {"POST", "/v1/broadcast", `{"data":"hi"`, nil, 400, 3, "INVALID_REQUEST", "", []string{"not JSON", "byte 12"}},
		"a comma too many":     {"POST", "/v1/broadcast", `{"data":"hi",}`, nil, 400, 3, "INVALID_REQUEST", "", []string{"not JSON", "byte 14"}},
		"two objects":          {"POST", "/v1/broadcast", `{"data":"a"}{"data":"b"}`, nil, 400, 3, "INVALID_REQUEST", "", []string{"not JSON", "byte 13"}},
		"a list":               {"POST", "/v1/broadcast", `[{"data":"a"}]`, nil, 400, 3, "INVALID_REQUEST", "", []string{"array", "object"}},
		"a string":             {"POST", "/v1/broadcast", `"hi"`, nil, 400, 3, "INVALID_REQUEST", "", []string{"string", "object"}},
		"null":                 {"POST", "/v1/broadcast", `null`, nil, 400, 3, "INVALID_REQUEST", "", []string{"the body is a JSON null, an object is accepted"}},
		"a real form":          {"POST", "/v1/broadcast", `data=hi&event=x`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, 3, "INVALID_REQUEST", "", []string{"not JSON", "byte 1"}},
		"bytes":                {"POST", "/v1/broadcast", "\x1f\x8b\x08\x00", nil, 400, 3, "INVALID_REQUEST", "", []string{"not JSON"}},
		"unknown field":        {"POST", "/v1/broadcast", `{"data":"hi","colour":"red"}`, nil, 400, 3, "INVALID_FIELD", "colour", []string{"colour", "no field"}},
		"odd unknown field":    {"POST", "/v1/broadcast", `{"data":"hi","a \n\u0000b":1}`, nil, 400, 3, "INVALID_FIELD", "a \n\x00b", []string{`"a \n\x00b"`, "no field"}},
		"unknown, not UTF-8":   {"POST", "/v1/broadcast", "{\"data\":\"hi\",\"\xff\":1}", nil, 400, 3, "INVALID_FIELD", "\uFFFD", []string{"no field"}},
		"unknown, very long":   {"POST", "/v1/broadcast", `{"` + strings.Repeat("y", 5000) + `":1}`, nil, 400, 3, "INVALID_FIELD", strings.Repeat("y", 80) + "…", []string{"no field"}},
		"given twice":          {"POST", "/v1/broadcast", `{"data":"a","data":"b"}`, nil, 400, 3, "INVALID_FIELD", "data", []string{"data", "more than once"}},
		"both names":           {"POST", "/v1/tokens", `{"userId":"a","user_id":"b"}`, nil, 400, 3, "INVALID_FIELD", "user_id", []string{"user_id", "more than once"}},
		"data a number":        {"POST", "/v1/broadcast", `{"data":7}`, nil, 400, 3, "INVALID_FIELD", "data", []string{"data", "JSON string"}},
		"data an object":       {"POST", "/v1/broadcast", `{"data":{"a":1}}`, nil, 400, 3, "INVALID_FIELD", "data", []string{"data", "JSON string"}},
		"data not UTF-8":       {"POST", "/v1/broadcast", "{\"data\":\"a\xff\"}", nil, 400, 3, "INVALID_FIELD", "data", []string{"data", "not valid UTF-8"}},
		"half a surrogate":     {"POST", "/v1/broadcast", `{"data":"\ud83e"}`, nil, 400, 3, "INVALID_FIELD", "data", []string{"data", "escape"}},
		"unknown to its user":  {"POST", "/v1/users/alice/messages", `{"date":"hi"}`, nil, 400, 3, "INVALID_FIELD", "date", []string{"date"}},
		"user not UTF-8":       {"POST", "/v1/users/a%FFb/messages", `{"data":"hi"}`, nil, 400, 3, "INVALID_FIELD", "user_id", []string{"user_id", "not valid UTF-8"}},
		"user twice":           {"POST", "/v1/users/alice/messages", `{"data":"hi","userId":"bob"}`, nil, 400, 3, "INVALID_FIELD", "user_id", []string{"user_id", "path"}},
		"user twice, the same": {"POST", "/v1/users/alice:disconnect", `{"user_id":"alice"}`, nil, 400, 3, "INVALID_FIELD", "user_id", []string{"user_id", "path"}},
		"topic twice":          {"POST", "/v1/topics/a/messages", `{"data":"hi","topic":"b"}`, nil, 400, 3, "INVALID_FIELD", "topic", []string{"topic", "path"}},
		"ttl in words":         {"POST", "/v1/tokens", `{"userId":"alice","ttl":"1h"}`, nil, 400, 3, "INVALID_FIELD", "ttl", []string{"ttl", `"3600s"`}},
		"ttl a number":         {"POST", "/v1/tokens", `{"userId":"alice","ttl":3600}`, nil, 400, 3, "INVALID_FIELD", "ttl", []string{"ttl", `"3600s"`}},
		"query on a POST":      {"POST", "/v1/broadcast?event=x", `{"data":"hi"}`, nil, 400, 3, "INVALID_FIELD", "event", []string{"event", "query"}},
		"query on Stats":       {"GET", "/v1/stats?shard=1", "", nil, 400, 3, "INVALID_FIELD", "shard", []string{"shard", "query"}},
		"unknown parameter":    {"GET", "/v1/users?limit=5", "", nil, 400, 3, "INVALID_FIELD", "limit", []string{"limit", "no parameter"}},
		"page_size a word":     {"GET", "/v1/users?page_size=many", "", nil, 400, 3, "INVALID_FIELD", "page_size", []string{"page_size", `"many"`, "number"}},
		"page_size huge":       {"GET", "/v1/users?page_size=99999999999", "", nil, 400, 3, "INVALID_FIELD", "page_size", []string{"page_size", "number"}},
		"page_size twice":      {"GET", "/v1/users?page_size=1&page_size=2", "", nil, 400, 3, "INVALID_FIELD", "page_size", []string{"page_size", "more than once"}},
		"page_size both names": {"GET", "/v1/users?page_size=1&pageSize=2", "", nil, 400, 3, "INVALID_FIELD", "page_size", []string{"page_size", "more than once"}},
		"page_size too much":   {"GET", "/v1/users?page_size=1001", "", nil, 400, 3, "INVALID_FIELD", "page_size", []string{"page_size", "1001", "1000"}},
		"page_size negative":   {"GET", "/v1/users?pageSize=-1", "", nil, 400, 3, "INVALID_FIELD", "page_size", []string{"page_size", "-1"}},
		"page_token made up":   {"GET", "/v1/users?page_token=2", "", nil, 400, 3, "INVALID_FIELD", "page_token", []string{"page_token"}},
		"prefix not UTF-8":     {"GET", "/v1/users?prefix=%ff", "", nil, 400, 3, "INVALID_FIELD", "prefix", []string{"prefix", "not valid UTF-8"}},
		"a map's syntax":       {"GET", "/v1/users?prefix[a]=b", "", nil, 400, 3, "INVALID_FIELD", "prefix[a]", []string{"no parameter"}},
		"bad escape in query":  {"GET", "/v1/users?prefix=%zz", "", nil, 400, 3, "INVALID_REQUEST", "", []string{"query", "%zz"}},
		"body over the limit":  {"POST", "/v1/broadcast", `{"data":"` + long + `"}`, nil, 413, 8, "REQUEST_TOO_LARGE", "", []string{"4194304"}},
		"multipart":            {"POST", "/v1/broadcast", `--x`, []string{"Content-Type", "multipart/form-data; boundary=x"}, 415, 3, "UNSUPPORTED_MEDIA_TYPE", "", []string{"multipart/form-data", "application/json"}},
		"protobuf":             {"POST", "/v1/broadcast", "\n\x02hi", []string{"Content-Type", "application/x-protobuf"}, 415, 3, "UNSUPPORTED_MEDIA_TYPE", "", []string{"application/json"}},
		"no media type":        {"POST", "/v1/broadcast", `{}`, []string{"Content-Type", "///"}, 415, 3, "UNSUPPORTED_MEDIA_TYPE", "", []string{"application/json"}},
		"unknown path":         {"GET", "/v1/nothing", "", nil, 404, 5, "UNKNOWN_PATH", "", []string{"/openapi.json"}},
		"the root":             {"GET", "/", "", nil, 404, 5, "UNKNOWN_PATH", "", nil},
		"/v1":                  {"GET", "/v1", "", nil, 404, 5, "UNKNOWN_PATH", "", nil},
		"a slash at the end":   {"GET", "/v1/users/", "", nil, 404, 5, "UNKNOWN_PATH", "", nil},
		"no message":           {"POST", "/v1/users/alice", "{}", nil, 404, 5, "UNKNOWN_PATH", "", nil},
		"topics in a string":   {"POST", "/v1/tokens", `{"userId":"alice","topics":"a"}`, nil, 400, 3, "INVALID_FIELD", "topics", []string{"topics", "list of JSON strings"}},
		"topics of numbers":    {"POST", "/v1/tokens", `{"userId":"alice","topics":[1]}`, nil, 400, 3, "INVALID_FIELD", "topics", []string{"topics", "list of JSON strings"}},
		"a topic not UTF-8":    {"POST", "/v1/tokens", "{\"userId\":\"alice\",\"topics\":[\"\xff\"]}", nil, 400, 3, "INVALID_FIELD", "topics", []string{"topics", "not valid UTF-8"}},
		"path not UTF-8":       {"POST", "/v1/topics/a%FFb/messages", `{"data":"hi"}`, nil, 400, 3, "INVALID_FIELD", "topic", []string{"topic", "not valid UTF-8"}},
		"a message's ttl":      {"POST", "/v1/broadcast", `{"data":"hi","ttl":"soon"}`, nil, 400, 3, "INVALID_FIELD", "ttl", []string{"ttl", `"3600s"`}},
		"for in words":         {"POST", "/v1/users/alice:disconnect", `{"for":"1h"}`, nil, 400, 3, "INVALID_FIELD", "for", []string{"for", `"3600s"`}},
		"unknown to topics":    {"GET", "/v1/topics?limit=5", "", nil, 400, 3, "INVALID_FIELD", "limit", []string{"limit", "no parameter"}},
		"page of topics":       {"GET", "/v1/topics?page_size=1001", "", nil, 400, 3, "INVALID_FIELD", "page_size", []string{"page_size", "1001", "1000"}},
		"nobody's end":         {"POST", "/v1/users/:disconnect", "{}", nil, 404, 5, "UNKNOWN_PATH", "", nil},
		"an escaped verb":      {"POST", "/v1/users/alice%3Adisconnect", "{}", nil, 404, 5, "UNKNOWN_PATH", "", nil},
		"another verb":         {"POST", "/v1/users/alice:connect", "{}", nil, 404, 5, "UNKNOWN_PATH", "", nil},
		"over slash in path":   {"POST", "/v1/users/a/b/messages", `{"data":"hi"}`, nil, 404, 5, "UNKNOWN_PATH", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := p.do(t, c.method, c.path, c.body, c.header...)
			f := got.failure(t)
			if got.StatusCode != c.status || f.code != c.code || f.reason != c.reason {
				t.Errorf("%s %+v", got.Status, f)
			}
			if c.field != "" && (len(f.fields) != 1 || f.fields[c.field] == "") {
				t.Errorf("fields %q, want %q", f.fields, c.field)
			}
			for _, word := range c.says {
				if !strings.Contains(f.message, word) {
					t.Errorf("%q doesn't say %q", f.message, word)
				}
			}
			if len(f.message) > 400 {
				t.Errorf("a message of %d bytes: %.400s", len(f.message), f.message)
			}
		})
	}
}

func TestRESTNamesAllWrongFields(t *testing.T) {
	p := start(t, control.Config{}, &fake{}, nil)
	f := p.do(t, "POST", "/v1/broadcast", `{"data":1,"event":2,"c":3}`).failure(t)
	if len(f.fields) != 3 {
		t.Errorf("%+v", f)
	}
	f = p.do(t, "POST", "/v1/broadcast", `{"a":1`+strings.Repeat(`,"a":1`, 100_000)+`}`).failure(t)
	if len(f.message) > 1000 {
		t.Errorf("a message of %d bytes", len(f.message))
	}
}

func TestRESTBodyOverLimitWithoutLength(t *testing.T) {
	p := start(t, control.Config{}, &fake{}, nil)
	body := io.MultiReader(strings.NewReader(`{"data":"`), strings.NewReader(strings.Repeat("x", control.MaxRequest)), strings.NewReader(`"}`))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/v1/broadcast", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%s", resp.Status)
	}
}

func TestRESTEmptyBodyLacksData(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	for _, body := range []string{"", " \r\n", "{}"} {
		got := p.do(t, "POST", "/v1/broadcast", body)
		if f := got.failure(t); got.StatusCode != http.StatusBadRequest || !strings.Contains(f.fields["data"], "empty") {
			t.Errorf("body %q: %s %+v", body, got.Status, f)
		}
	}
}

func TestRESTMethods(t *testing.T) {
	p := start(t, control.Config{}, &fake{}, stubMinter{})
	for path, allow := range map[string]string{
		"/v1/broadcast":             "POST",
		"/v1/users/alice/messages":  "POST",
		"/v1/users/a%2Fb/messages":  "POST",
		"/v1/users/a:disconnect":    "POST",
		"/v1/topics/a%2Fb/messages": "POST",
		"/v1/topics":                "GET, HEAD",
		"/v1/tokens":                "POST",
		"/v1/users":                 "GET, HEAD",
		"/v1/stats":                 "GET, HEAD",
		"/openapi.json":             "GET, HEAD",
		"/swagger.json":             "GET, HEAD",
		"/healthz":                  "GET, HEAD",
		"/readyz":                   "GET, HEAD",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "MADEUP"} {
			got := p.do(t, method, path, "", "Content-Type", "application/x-www-form-urlencoded", "X-HTTP-Method-Override", "GET")
			checkMethod(t, method, path, allow, got)
		}
	}
}

func checkMethod(t *testing.T, method, path, allow string, got answer) {
	t.Helper()
	if strings.Contains(allow, method) {
		if got.StatusCode == http.StatusMethodNotAllowed || got.StatusCode == http.StatusNotFound {
			t.Errorf("%s %s: %s %s", method, path, got.Status, got.body)
		}
		return
	}
	if got.StatusCode != http.StatusMethodNotAllowed || got.Header.Get("Allow") != allow {
		t.Errorf("%s %s: %s, Allow %q", method, path, got.Status, got.Header.Get("Allow"))
	}
	if method == http.MethodHead {
		return
	}
	if f := got.failure(t); f.reason != "METHOD_NOT_ALLOWED" || !strings.Contains(f.message, method) {
		t.Errorf("%s %s: %+v", method, path, f)
	}
}

func TestRESTHeadHasNoBody(t *testing.T) {
	p := start(t, control.Config{}, &fake{}, nil)
	get, head := p.do(t, "GET", "/v1/stats", ""), p.do(t, "HEAD", "/v1/stats", "")
	if head.body != "" || head.StatusCode != http.StatusOK || head.ContentLength != get.ContentLength || head.Header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD: %s, %v, length %d; GET's is %d", head.Status, head.Header, head.ContentLength, get.ContentLength)
	}
}

// curl -d calls its JSON a form, fetch calls a string plain text.
func TestRESTContentTypes(t *testing.T) {
	p := start(t, control.Config{}, &fake{}, nil)
	for _, contentType := range []string{
		"", "application/json", "application/json; charset=utf-8", "Application/JSON", "application/problem+json",
		"application/x-www-form-urlencoded", "text/plain;charset=UTF-8",
	} {
		if got := p.do(t, "POST", "/v1/broadcast", `{"data":"hi"}`, "Content-Type", contentType); got.StatusCode != http.StatusOK {
			t.Errorf("%q: %s %s", contentType, got.Status, got.body)
		}
	}
}

func TestRESTRefusesBrowsersOfOtherOrigins(t *testing.T) {
	p := start(t, control.Config{}, &fake{}, nil)
	host := strings.TrimPrefix(p.url, "http://")
	for name, c := range map[string]struct {
		header []string
		status int
	}{
		"another site":           {[]string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 403},
		"another port":           {[]string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:1"}, 403},
		"an old browser":         {[]string{"Origin", "https://evil.example"}, 403},
		"a sandboxed page":       {[]string{"Origin", "null"}, 403},
		"a page of its own":      {[]string{"Sec-Fetch-Site", "same-origin", "Origin", "http://" + host}, 200},
		"typed into the browser": {[]string{"Sec-Fetch-Site", "none"}, 200},
	} {
		got := p.do(t, "POST", "/v1/broadcast", `{"data":"hi"}`, append(c.header, "Content-Type", "text/plain")...)
		if got.StatusCode != c.status {
			t.Errorf("%s: %s", name, got.Status)
		}
		if c.status == 403 {
			if f := got.failure(t); f.code != codes.PermissionDenied || f.reason != "FOREIGN_ORIGIN" {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

// A page may make its own name point here and then is of the same origin.
func TestRESTRefusesForeignNames(t *testing.T) {
	open := start(t, control.Config{}, &fake{}, nil)
	for host, status := range map[string]int{
		"localhost": 200, "localhost:9091": 200, "LOCALHOST": 200, "localhost.": 200, "peald.localhost:1": 200, "127.0.0.1": 200, "[::1]:9091": 200, "192.0.2.1": 200,
		"evil.example": 403, "evil.example:9091": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "notlocalhost": 403,
	} {
		got := open.do(t, "GET", "/v1/stats", "", "Host", host)
		if got.StatusCode != status {
			t.Errorf("%s: %s", host, got.Status)
		}
		if status == 403 {
			if f := got.failure(t); f.reason != "FOREIGN_HOST" || !strings.Contains(f.message, "control.tokens") {
				t.Errorf("%s: %+v", host, f)
			}
		}
	}
	if got := open.do(t, "GET", "/healthz", "", "Host", "evil.example"); got.StatusCode != http.StatusOK {
		t.Errorf("health: %s", got.Status)
	}
	for name, cfg := range map[string]control.Config{
		"insecure": {Insecure: true},
		"tokens":   {Tokens: []control.Token{{Name: "shop", Token: "s3cret"}}},
	} {
		p := start(t, cfg, &fake{}, nil)
		if got := p.do(t, "GET", "/v1/stats", "", "Host", "peald.example", "Authorization", "Bearer s3cret"); got.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", name, got.Status)
		}
	}
}

func TestRESTAnswers(t *testing.T) {
	p := start(t, control.Config{Version: "v1.2.3", MaxConnections: 1000}, &fake{stats: broker.Stats{Published: 7, Shards: make([]broker.ShardStats, 1)}}, nil)
	got := p.do(t, "GET", "/v1/stats", "")
	const shard = `{"shard":0,"connections":0,"authenticatedConnections":0,"connected":"0","disconnected":{},"delivered":"0","dropped":{},"bytes":"0","queuedBytes":"0","waitingEvents":"0","lag":"0s","node":""}`
	const want = `{"total":` + shard + `,"shards":[` + shard + `],"users":0,"published":"7","startedAt":"0001-01-01T00:00:00Z","version":"v1.2.3","maxConnections":1000,"resumes":{"replayed":"0","resets":{},"ended":"0"},"publishedByAudience":{"broadcast":"0","user":"0","topic":"0"},"topics":0,"log":{"events":"0","bytes":"0","since":null},"descriptors":null,"latency":{"buckets":[],"count":"0","sum":0},"nodes":[],"missingNodes":[]}` + "\n"
	if got.body != want {
		t.Errorf("got  %swant %s", got.body, want)
	}
	for name, value := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Type": "application/json"} {
		if got.Header.Get(name) != value {
			t.Errorf("%s: %q", name, got.Header.Get(name))
		}
	}
	for name := range got.Header {
		if strings.HasPrefix(name, "Grpc-") {
			t.Errorf("header %s", name)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	p := start(t, control.Config{}, &fake{}, nil)
	if got := p.do(t, "GET", "/swagger.json", ""); !strings.Contains(got.body, `"swagger": "2.0"`) {
		t.Errorf("%s %.200s", got.Status, got.body)
	}
	got := p.do(t, "GET", "/openapi.json", "")
	var doc struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.") {
		t.Fatalf("%v: %.200s", err, got.body)
	}
	operations := 0
	for path, methods := range doc.Paths {
		for method := range methods {
			operations++
			path := strings.NewReplacer("{user_id}", "alice", "{topic}", "orders").Replace(path)
			if got := p.do(t, strings.ToUpper(method), path, ""); got.StatusCode == http.StatusNotFound || got.StatusCode == http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %s", method, path, got.Status)
			}
		}
	}
	want := 0
	for _, c := range calls() {
		if c.path != "" {
			want++
		}
	}
	if operations != want {
		t.Errorf("%d operations, want %d", operations, want)
	}
}
