package rest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

func TestMethods(t *testing.T) {
	s := startServer(t, control.Config{}, &fakeBroker{}, stubMinter{})
	for path, allow := range map[string]string{
		"/v1/broadcast":             "GET, HEAD, POST",
		"/v1/users/alice/messages":  "GET, HEAD, POST",
		"/v1/users/a%2Fb/messages":  "GET, HEAD, POST",
		"/v1/users/a:disconnect":    "POST",
		"/v1/topics/a%2Fb/messages": "GET, HEAD, POST",
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
			got := s.do(t, method, path, "", "Content-Type", "application/x-www-form-urlencoded", "X-HTTP-Method-Override", "GET")
			checkMethod(t, method, path, allow, got)
		}
	}
}

// checkMethod checks that a response is a success if allow contains the method,
// and otherwise lists the methods of allow.
func checkMethod(t *testing.T, method, path, allow string, got response) {
	t.Helper()

	if strings.Contains(allow, method) {
		if got.StatusCode == http.StatusMethodNotAllowed || got.StatusCode == http.StatusNotFound {
			t.Errorf("%s %s: response %s %s", method, path, got.Status, got.body)
		}

		return
	}

	if got.StatusCode != http.StatusMethodNotAllowed || got.Header.Get("Allow") != allow {
		t.Errorf("%s %s: status %s and Allow %q, want 405 and %q", method, path, got.Status, got.Header.Get("Allow"), allow)
	}

	if method == http.MethodHead {
		return
	}

	if f := got.failure(t); f.reason != "METHOD_NOT_ALLOWED" || !strings.Contains(f.message, method) {
		t.Errorf("%s %s: error %+v, want METHOD_NOT_ALLOWED", method, path, f)
	}
}

func TestHeadHasNoBody(t *testing.T) {
	s := startServer(t, control.Config{}, &fakeBroker{}, nil)
	get, head := s.do(t, "GET", "/v1/stats", ""), s.do(t, "HEAD", "/v1/stats", "")

	if head.body != "" || head.StatusCode != http.StatusOK || head.ContentLength != get.ContentLength || head.Header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD: %s, %v, length %d; GET has length %d", head.Status, head.Header, head.ContentLength, get.ContentLength)
	}
}

func TestForeignOriginsAreRejected(t *testing.T) {
	s := startServer(t, control.Config{}, &fakeBroker{}, nil)
	host := strings.TrimPrefix(s.url, "http://")

	for name, c := range map[string]struct {
		header []string
		status int
	}{
		"cross-site":     {[]string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 403},
		"another port":   {[]string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:1"}, 403},
		"old browser":    {[]string{"Origin", "https://evil.example"}, 403},
		"sandboxed page": {[]string{"Origin", "null"}, 403},
		"same origin":    {[]string{"Sec-Fetch-Site", "same-origin", "Origin", "http://" + host}, 200},
		"address bar":    {[]string{"Sec-Fetch-Site", "none"}, 200},
	} {
		got := s.do(t, "POST", "/v1/broadcast", `{"data":"hi"}`, append(c.header, "Content-Type", "text/plain")...)
		if got.StatusCode != c.status {
			t.Errorf("%s: status %s, want %d", name, got.Status, c.status)
		}

		if c.status == 403 {
			if f := got.failure(t); f.code != codes.PermissionDenied || f.reason != "FOREIGN_ORIGIN" {
				t.Errorf("%s: error %+v, want FOREIGN_ORIGIN", name, f)
			}
		}
	}
}

// An attacker's page can make its own host name resolve to the control plane's
// address, which gives it the same origin.
func TestForeignHostsAreRejected(t *testing.T) {
	open := startServer(t, control.Config{}, &fakeBroker{}, nil)
	for host, status := range map[string]int{
		"localhost": 200, "localhost:9091": 200, "LOCALHOST": 200, "localhost.": 200, "peald.localhost:1": 200, "127.0.0.1": 200, "[::1]:9091": 200, "192.0.2.1": 200,
		"evil.example": 403, "evil.example:9091": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "notlocalhost": 403,
	} {
		got := open.do(t, "GET", "/v1/stats", "", "Host", host)
		if got.StatusCode != status {
			t.Errorf("host %s: status %s, want %d", host, got.Status, status)
		}

		if status == 403 {
			if f := got.failure(t); f.reason != "FOREIGN_HOST" || !strings.Contains(f.message, "control.tokens") {
				t.Errorf("host %s: error %+v, want FOREIGN_HOST", host, f)
			}
		}
	}

	if got := open.do(t, "GET", "/healthz", "", "Host", "evil.example"); got.StatusCode != http.StatusOK {
		t.Errorf("health: status %s, want 200", got.Status)
	}

	for name, cfg := range map[string]control.Config{
		"insecure": {Insecure: true},
		"tokens":   {Tokens: []control.Token{{Name: "shop", Token: "s3cret"}}},
	} {
		s := startServer(t, cfg, &fakeBroker{}, nil)
		if got := s.do(t, "GET", "/v1/stats", "", "Host", "peald.example", "Authorization", "Bearer s3cret"); got.StatusCode != http.StatusOK {
			t.Errorf("%s: status %s, want 200", name, got.Status)
		}
	}
}

func TestResponse(t *testing.T) {
	s := startServer(t, control.Config{Version: "v1.2.3", MaxConnections: 1000}, &fakeBroker{stats: broker.Stats{Published: 7, Shards: make([]broker.ShardStats, 1)}}, nil)
	got := s.do(t, "GET", "/v1/stats", "")

	const shard = `{"shard":0,"connections":0,"authenticatedConnections":0,"connected":"0","disconnected":{},"delivered":"0","dropped":{},"bytes":"0","queuedBytes":"0","waitingEvents":"0","lag":"0s","node":""}`

	const want = `{"total":` + shard + `,"shards":[` + shard + `],"users":0,"published":"7","startedAt":"0001-01-01T00:00:00Z","version":"v1.2.3","maxConnections":1000,"resumes":{"replayed":"0","resets":{},"ended":"0"},"publishedByAudience":{"broadcast":"0","user":"0","topic":"0"},"topics":0,"log":{"events":"0","bytes":"0","since":null},"descriptors":null,"latency":{"buckets":[],"count":"0","sum":0},"nodes":[],"missingNodes":[],"since":{"replayed":"0","resets":{},"ended":"0"},"retained":{"events":"0","bytes":"0","starts":{"replayed":"0","resets":{},"ended":"0"}},"rewinds":{"replayed":"0","resets":{},"ended":"0"},"polls":{"waiting":0,"answered":{},"abandoned":"0"},"reads":{"broadcast":"0","user":"0","topic":"0"},"sources":[]}` + "\n"
	if got.body != want {
		t.Errorf("got  %swant %s", got.body, want)
	}

	for name, value := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Type": "application/json"} {
		if got.Header.Get(name) != value {
			t.Errorf("%s: %q, want %q", name, got.Header.Get(name), value)
		}
	}

	for name := range got.Header {
		if strings.HasPrefix(name, "Grpc-") {
			t.Errorf("unwanted header %s", name)
		}
	}
}

func TestOpenAPIDocuments(t *testing.T) {
	s := startServer(t, control.Config{}, &fakeBroker{}, nil)
	if got := s.do(t, "GET", "/swagger.json", ""); !strings.Contains(got.body, `"swagger": "2.0"`) {
		t.Errorf("response %s %.200s, want a Swagger 2.0 document", got.Status, got.body)
	}

	got := s.do(t, "GET", "/openapi.json", "")

	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			OperationID string `json:"operationId"`
		} `json:"paths"`
	}
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.") {
		t.Fatalf("%v: %.200s", err, got.body)
	}

	calls := make(map[string]bool) // the RPCs with a path

	for path, methods := range doc.Paths {
		for method, operation := range methods {
			// The operations of a call with several paths are numbered.
			if operation.OperationID != cloudEventsOperation {
				calls[strings.TrimRight(operation.OperationID, "0123456789")] = true
			}

			path := strings.NewReplacer("{user_id}", "alice", "{topic}", "orders").Replace(path)
			if got := s.do(t, strings.ToUpper(method), path, ""); got.StatusCode == http.StatusNotFound || got.StatusCode == http.StatusMethodNotAllowed {
				t.Errorf("%s %s: status %s", method, path, got.Status)
			}
		}
	}

	service := pealv1.ControlService_ServiceDesc

	const grpcOnly = 2 // PublishStream and WatchConnections
	if want := len(service.Methods) + len(service.Streams) - grpcOnly; len(calls) != want {
		t.Errorf("%d calls, want %d: %v", len(calls), want, calls)
	}
}
