package rest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/peald/peald/control"
)

// FuzzREST checks that no path, query or body causes an internal error, and that
// every error can be parsed.
func FuzzREST(f *testing.F) {
	f.Add("POST", "/v1/tokens", "", `{"userId":"alice","ttl":"1s"}`)
	f.Add("POST", "/v1/users/a%2Fb/messages", "", `{"data":"\ud83e","x":1}`)
	f.Add("GET", "/v1/users", "page_size=1&prefix=%C3%A9&pageToken=YQ", "")
	f.Add("GET", "/v1/topics", "pageToken=YQ&prefix=%3E", "")
	f.Add("GET", "/v1/topics/a/messages", "afterId=e-1&order=newest&page_size=7&retained=true", "")
	f.Add("POST", "/v1/topics/%2A/messages", "", `{"data":"x","ttl":"-0s","idempotencyKey":"\u0000"}`)
	f.Add("POST", "/v1/users/:disconnect:disconnect", "", `{"for":"1e9s","user_id":1}`)
	f.Add("POST", "/v1/tokens", "", `{"userId":"a","topics":[null,"\ud83e",[]]}`)
	f.Add("GET", "/v1/users", "page_size[a]=1&prefix.x=1", "")
	f.Add("POST", "/v1/tokens", "", `{"ttl":{"seconds":1},"ttl":null,"\ud800":[[[]]]}`)
	f.Add("POST", "/v1/messages", "", `{"topics":["a","*",""],"excludeUserId":"\u0000","data":"x"}`)
	f.Add("POST", "/v1/messages:batch", "", `{"messages":[{"topic":"a","data":"x"},{"topic":1,"topic":2},null,"\ud83e",[[]],{"\ud800":1}]}`)
	f.Add("POST", "/v1/messages:batch", "", `{"message":[],"messages":{},"messages":[1],"\ud800":1}`)

	s := startServer(f, control.Config{}, &fakeBroker{}, stubMinter{})

	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		if method != "GET" && method != "POST" {
			t.Skip()
		}

		if query != "" {
			path += "?" + query
		}

		if _, err := http.NewRequestWithContext(t.Context(), method, s.url+path, nil); err != nil || path == "" || path[0] != '/' {
			t.Skip()
		}

		got := s.do(t, method, path, body)

		switch {
		case got.StatusCode == http.StatusBadRequest && got.Header.Get("Content-Type") == "text/plain; charset=utf-8": // from net/http
		case got.StatusCode >= 500 && path != "/readyz":
			t.Errorf("%s %q %q: response %s %s", method, path, body, got.Status, got.body)
		case got.StatusCode >= 400:
			if f := got.failure(t); f.message == "" || f.reason == "" || len(f.message) > 2000 {
				t.Errorf("%s %q %q: response %s %s", method, path, body, got.Status, got.body)
			}
		case strings.HasPrefix(path, "/v1/messages:batch"):
			checkResults(t, body, got.body)
		}
	})
}

// checkResults checks that a batch has one result for each of its messages.
func checkResults(t *testing.T, batch, reply string) {
	t.Helper()

	var sent struct{ Messages []json.RawMessage }

	var got struct {
		Results []struct {
			ID    string
			Error *struct{ Message, Reason string }
		}
	}

	if err := json.Unmarshal([]byte(reply), &got); err != nil || json.Unmarshal([]byte(batch), &sent) == nil && len(sent.Messages) != len(got.Results) {
		t.Errorf("%q: %d results: %v", batch, len(got.Results), err)
	}

	for _, r := range got.Results {
		if (r.ID == "") == (r.Error == nil) || r.Error != nil && (r.Error.Message == "" || r.Error.Reason == "" || len(r.Error.Message) > 2000) {
			t.Errorf("%q: result %+v in %s", batch, r, reply)
		}
	}
}
