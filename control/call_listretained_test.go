package control_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/broker"
)

func TestListRetained(t *testing.T) {
	p, b := retainingPlane(t)
	for _, m := range []broker.Message{
		{Audience: broker.ToTopic("prices.eur"), Data: "x"}, {Audience: broker.ToUser("z"), Data: "xy"}, {Audience: broker.Everyone(), Data: "xyz"},
	} {
		m.Retain = true
		if _, err := b.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}

	type page struct {
		Audiences []struct {
			Everyone      bool
			UserID        string
			Topic         string
			Events, Bytes string
		}
		NextPageToken string
	}
	read := func(query string) (got page) {
		t.Helper()
		reply := p.do(t, "GET", "/v1/retained"+query, "")
		if err := json.Unmarshal([]byte(reply.body), &got); err != nil || reply.StatusCode != http.StatusOK {
			t.Fatalf("GET %s: %s %s", query, reply.Status, reply.body)
		}
		return got
	}

	first := read("?page_size=2")
	if a := first.Audiences; len(a) != 2 || !a[0].Everyone || a[1].UserID != "z" || a[0].Events != "1" || a[0].Bytes < "600" || first.NextPageToken == "" {
		t.Errorf("first page %+v", first)
	}
	for _, size := range []string{"", "&page_size=1"} {
		last := read("?page_token=" + url.QueryEscape(first.NextPageToken) + size)
		if a := last.Audiences; len(a) != 1 || a[0].Topic != "prices.eur" || last.NextPageToken != "" {
			t.Errorf("last page %+v", last)
		}
	}
	if got := read("?topic=prices.*"); len(got.Audiences) != 1 || got.Audiences[0].Topic != "prices.eur" {
		t.Errorf("topics that match: %+v", got)
	}
	if second := read("?page_size=1"); read("?page_size=1&page_token=" + second.NextPageToken).Audiences[0].UserID != "z" {
		t.Error("no page starts after everyone")
	}

	for query, problem := range map[string]string{
		"topic=a.%3E.b": "is not the last token", "topic=%0A": "control character", "page_size=1001": "page_size is 1001",
		"page_token=bWFkZSB1cA": "page_token is not the next_page_token", "page_token=dXNlciA": "page_token is not the next_page_token", "prefix=a": "prefix is not a parameter",
	} {
		if reply := p.do(t, "GET", "/v1/retained?"+query, ""); reply.StatusCode != http.StatusBadRequest || !strings.Contains(reply.body, problem) {
			t.Errorf("GET %s: %s %s, want %q", query, reply.Status, reply.body, problem)
		}
	}
	b.Close()
	if reply := p.do(t, "GET", "/v1/retained", ""); reply.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after the broker was closed: %s %s", reply.Status, reply.body)
	}
}

func TestMessagesHaveEndAndExpiry(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	p.do(t, "POST", "/v1/topics/a/messages", `{"data":"first"}`)
	p.do(t, "POST", "/v1/topics/a/messages", `{"data":"last","final":true,"ttl":"60s"}`)
	reply := p.do(t, "GET", "/v1/topics/a/messages", "")
	var page struct {
		Messages []struct {
			Final      *bool
			Time       time.Time
			ExpireTime *time.Time
		}
	}
	if err := json.Unmarshal([]byte(reply.body), &page); err != nil || len(page.Messages) != 2 {
		t.Fatalf("%v: %s", err, reply.body)
	}
	if m := page.Messages[0]; m.Final == nil || *m.Final || m.ExpireTime != nil || strings.Contains(reply.body, "null") {
		t.Errorf("first message: %s", reply.body)
	}
	if m := page.Messages[1]; m.Final == nil || !*m.Final || m.ExpireTime == nil || !m.ExpireTime.Equal(m.Time.Add(time.Minute)) {
		t.Errorf("last message: %s", reply.body)
	}
}
