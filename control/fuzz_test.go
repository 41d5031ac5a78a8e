package control_test

import (
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// Whatever a body or a query is, it is the caller's fault and never the
// daemon's, and the error can be read.
func FuzzREST(f *testing.F) {
	f.Add("POST", "/v1/tokens", "", `{"userId":"alice","ttl":"1s"}`)
	f.Add("POST", "/v1/users/a%2Fb/messages", "", `{"data":"\ud83e","x":1}`)
	f.Add("GET", "/v1/users", "page_size=1&prefix=%C3%A9&pageToken=YQ", "")
	f.Add("GET", "/v1/topics", "pageToken=YQ&prefix=%3E", "")
	f.Add("POST", "/v1/topics/%2A/messages", "", `{"data":"x","ttl":"-0s","idempotencyKey":"\u0000"}`)
	f.Add("POST", "/v1/users/:disconnect:disconnect", "", `{"for":"1e9s","user_id":1}`)
	f.Add("POST", "/v1/tokens", "", `{"userId":"a","topics":[null,"\ud83e",[]]}`)
	f.Add("GET", "/v1/users", "page_size[a]=1&prefix.x=1", "")
	f.Add("POST", "/v1/tokens", "", `{"ttl":{"seconds":1},"ttl":null,"\ud800":[[[]]]}`)
	p := start(f, control.Config{}, &fake{}, stubMinter{})
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		if method != "GET" && method != "POST" {
			t.Skip()
		}
		if query != "" {
			path += "?" + query
		}
		if _, err := http.NewRequestWithContext(t.Context(), method, p.url+path, nil); err != nil || path == "" || path[0] != '/' {
			t.Skip()
		}
		got := p.do(t, method, path, body)
		switch {
		case got.StatusCode == http.StatusBadRequest && got.Header.Get("Content-Type") == "text/plain; charset=utf-8": // net/http's own
		case got.StatusCode >= 500 && path != "/readyz":
			t.Errorf("%s %q %q: %s %s", method, path, body, got.Status, got.body)
		case got.StatusCode >= 400:
			if f := got.failure(t); f.message == "" || f.reason == "" || len(f.message) > 2000 {
				t.Errorf("%s %q %q: %s %s", method, path, body, got.Status, got.body)
			}
		}
	})
}

// Whatever bytes a request is, either they are a message or the caller gets
// INVALID_ARGUMENT.
func FuzzDecode(f *testing.F) {
	f.Add(field(1, "alice"))
	f.Add(append(field(1, "\xff"), field(2, "\x08\x01")...))
	p := start(f, control.Config{}, &fake{}, stubMinter{})
	f.Fuzz(func(t *testing.T, request []byte) {
		err := p.conn.Invoke(t.Context(), pealv1.ControlService_CreateToken_FullMethodName, request,
			&pealv1.CreateTokenResponse{}, grpc.ForceCodecV2(rawCodec{}))
		if err != nil && status.Code(err) != codes.InvalidArgument {
			t.Error(err)
		}
	})
}
