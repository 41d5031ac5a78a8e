package control_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// subscriberPages lists the subscribers of a topic page by page.
func (p *plane) subscriberPages(t *testing.T, topic, prefix string, size int32) (users []string, anonymous int32) {
	t.Helper()
	for token := ""; ; {
		reply, err := p.ListSubscribers(t.Context(), &pealv1.ListSubscribersRequest{Topic: topic, Prefix: prefix, PageSize: size, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		if len(reply.GetUsers()) > int(size) {
			t.Fatalf("%d users on a page of %d", len(reply.GetUsers()), size)
		}
		for _, u := range reply.GetUsers() {
			users = append(users, fmt.Sprint(u.GetUserId(), " ", u.GetConnections()))
		}
		anonymous = reply.GetAnonymousConnections()
		if token = reply.GetNextPageToken(); token == "" {
			return users, anonymous
		}
	}
}

func TestListSubscribers(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	var byName, all []string
	for i := range 25 {
		user := fmt.Sprintf("user-%02d/ü", i)
		topics := [][]string{{"orders.7"}, {"orders.*", ">"}, {"news"}}[i%3]
		stream(t, b, user, topics...)
		stream(t, b, user)
		if i%3 < 2 {
			all = append(all, user+" 1")
		}
		if i%3 == 1 {
			byName = append(byName, user+" 1")
		}
	}
	stream(t, b, "zoë", "orders.7")
	stream(t, b, "zoë", "orders.8", "orders.7")
	stream(t, b, "", "orders.7")
	stream(t, b, "", "orders.>")
	stream(t, b, "", "news")

	for _, size := range []int32{1, 7, 17, 18, 1000} {
		users, anonymous := p.subscriberPages(t, "orders.7", "user-", size)
		if !slices.Equal(users, all) || anonymous != 2 {
			t.Errorf("pages of %d: %q, and %d anonymous streams", size, users, anonymous)
		}
		if users, anonymous = p.subscriberPages(t, "orders.*", "", size); !slices.Equal(users, byName) || anonymous != 1 {
			t.Errorf("of a pattern, pages of %d: %q, and %d anonymous streams", size, users, anonymous)
		}
	}

	rest := p.do(t, "GET", "/v1/topics/orders.7/subscribers?prefix=z", "")
	if want := `{"users":[{"userId":"zoë","connections":2}],"anonymousConnections":2,"nextPageToken":"","missingNodes":[]}` + "\n"; rest.body != want {
		t.Errorf("REST: %s, want %s", rest.body, want)
	}
	rest = p.do(t, "GET", "/v1/topics/none%2Fof%20them/subscribers?page_size=1", "")
	if !strings.HasPrefix(rest.body, `{"users":[{"userId":"user-01/ü","connections":1}],"anonymousConnections":0,"nextPageToken":"`) {
		t.Errorf("REST, a topic that is matched by >: %s", rest.body)
	}
}

func TestListSubscribersRejects(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)

	for name, c := range map[string]struct {
		req    *pealv1.ListSubscribersRequest
		fields []string
	}{
		"no topic":          {&pealv1.ListSubscribersRequest{}, []string{"topic"}},
		"malformed pattern": {&pealv1.ListSubscribersRequest{Topic: "a.>.b"}, []string{"topic"}},
		"long topic":        {&pealv1.ListSubscribersRequest{Topic: strings.Repeat("x", 256)}, []string{"topic"}},
		"everything": {
			&pealv1.ListSubscribersRequest{Topic: "a\nb", PageSize: -1, PageToken: base64.RawURLEncoding.EncodeToString([]byte("a\nb"))},
			[]string{"topic", "page_size", "page_token"},
		},
	} {
		_, err := p.ListSubscribers(t.Context(), c.req)
		f := failureOf(t, err)
		if f.code != codes.InvalidArgument || len(f.fields) != len(c.fields) {
			t.Errorf("%s: %+v", name, f)
		}
		for _, field := range c.fields {
			if !strings.HasPrefix(f.fields[field], field) {
				t.Errorf("%s: %+v, want the field %s", name, f, field)
			}
		}
	}

	if f := p.do(t, "GET", "/v1/topics/a.%3E.b/subscribers", "").failure(t); f.code != codes.InvalidArgument || f.fields["topic"] == "" {
		t.Errorf("REST: %+v", f)
	}
	b.Close()
	_, err := p.ListSubscribers(t.Context(), &pealv1.ListSubscribersRequest{Topic: "news"})
	if f := failureOf(t, err); f.code != codes.Unavailable || f.reason != "STOPPING" {
		t.Errorf("after the broker was closed: %+v", f)
	}
}
