package control_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func TestListUsersPages(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	want := make([]string, 0, 25)

	for i := range cap(want) {
		user := fmt.Sprintf("user-%02d/ü", i)
		want = append(want, user)

		for range i%3 + 1 {
			stream(t, b, user)
		}
	}

	stream(t, b, "zoë")
	stream(t, b, "")

	for _, size := range []int32{1, 7, 25, 26, 1000} {
		if got := p.pages(t, size, "user-"); !slices.Equal(got, want) {
			t.Errorf("pages of %d: %q", size, got)
		}
	}

	rest := p.do(t, "GET", "/v1/users?pageSize=1&prefix="+url.QueryEscape("zoë"), "")
	if !strings.Contains(rest.body, `{"users":[{"userId":"zoë","connections":1,"connectedSince":"`) || !strings.Contains(rest.body, `"nextPageToken":""`) {
		t.Errorf("REST: %s", rest.body)
	}

	if rest := p.do(t, "GET", "/v1/users?prefix=nobody", ""); rest.body != `{"users":[],"nextPageToken":"","missingNodes":[]}`+"\n" {
		t.Errorf("REST without users: %s", rest.body)
	}
}

// pages lists users page by page.
func (p *plane) pages(t *testing.T, size int32, prefix string) []string {
	t.Helper()
	var users []string
	for token := ""; ; {
		reply, err := p.ListUsers(t.Context(), &pealv1.ListUsersRequest{PageSize: size, Prefix: prefix, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		if len(reply.GetUsers()) > int(size) {
			t.Fatalf("%d users on a page of %d", len(reply.GetUsers()), size)
		}
		for _, u := range reply.GetUsers() {
			users = append(users, u.GetUserId())
			if u.GetConnections() < 1 || time.Since(u.GetConnectedSince().AsTime()) > time.Minute {
				t.Errorf("%v", u)
			}
		}
		if token = reply.GetNextPageToken(); token == "" {
			return users
		}
	}
}

func TestListUsersDefaultPageSize(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	for i := range 101 {
		stream(t, b, fmt.Sprintf("%03d", i))
	}
	reply, err := p.ListUsers(t.Context(), &pealv1.ListUsersRequest{})
	if err != nil || len(reply.GetUsers()) != 100 || reply.GetNextPageToken() == "" {
		t.Errorf("%d users, next page %q, %v; want 100 users and a next page", len(reply.GetUsers()), reply.GetNextPageToken(), err)
	}
}

func TestListUsersRejects(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

	for name, c := range map[string]struct {
		req   *pealv1.ListUsersRequest
		field string
	}{
		"negative size":     {&pealv1.ListUsersRequest{PageSize: -1}, "page_size"},
		"size too large":    {&pealv1.ListUsersRequest{PageSize: 1001}, "page_size"},
		"not base64":        {&pealv1.ListUsersRequest{PageToken: "a b"}, "page_token"},
		"padded base64":     {&pealv1.ListUsersRequest{PageToken: "YQ=="}, "page_token"},
		"non-strict base64": {&pealv1.ListUsersRequest{PageToken: "YR"}, "page_token"},
		"invalid user":      {&pealv1.ListUsersRequest{PageToken: encode("a\nb")}, "page_token"},
		"not UTF-8":         {&pealv1.ListUsersRequest{PageToken: encode("\xff")}, "page_token"},
		"long user":         {&pealv1.ListUsersRequest{PageToken: encode(strings.Repeat("x", 256))}, "page_token"},
	} {
		_, err := p.ListUsers(t.Context(), c.req)
		if f := failureOf(t, err); f.code != codes.InvalidArgument || len(f.fields) != 1 || !strings.HasPrefix(f.fields[c.field], c.field) {
			t.Errorf("%s: %+v", name, f)
		}
	}

	_, err := p.ListUsers(t.Context(), &pealv1.ListUsersRequest{PageSize: -1, PageToken: "?"})
	if f := failureOf(t, err); len(f.fields) != 2 {
		t.Errorf("two invalid fields: %+v", f)
	}
}
