package control_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

func (p *plane) tail(t *testing.T, req *pealv1.TailRequest) grpc.ServerStreamingClient[pealv1.TailResponse] {
	t.Helper()
	tail, err := p.Tail(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return tail
}

// receive returns the next item of a tail.
func receive(t *testing.T, tail grpc.ServerStreamingClient[pealv1.TailResponse]) *pealv1.TailResponse {
	t.Helper()
	resp, err := tail.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestTailShowsPublishedMessages(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	stream(t, b, "alice", "orders.*")
	stream(t, b, "")

	all := p.tail(t, &pealv1.TailRequest{})
	everyone := p.tail(t, &pealv1.TailRequest{Audience: &pealv1.TailRequest_Everyone{Everyone: true}})
	alice := p.tail(t, &pealv1.TailRequest{Audience: &pealv1.TailRequest_UserId{UserId: "alice"}})
	orders := p.tail(t, &pealv1.TailRequest{Audience: &pealv1.TailRequest_Topic{Topic: "orders.>"}})
	var first string
	for _, tail := range []grpc.ServerStreamingClient[pealv1.TailResponse]{all, everyone, alice, orders} {
		if first = receive(t, tail).GetPosition(); !strings.HasSuffix(first, "-0") {
			t.Fatalf("the tail starts at %q", first)
		}
	}

	if _, err := p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "an\r\nalle", Event: "news"}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Data: "hers"}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "nobody", Data: "lost"}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Publish(t.Context(), &pealv1.PublishRequest{Topic: "orders.7", Data: "paid"}); err != nil {
		t.Fatal(err)
	}

	want := func(tail grpc.ServerStreamingClient[pealv1.TailResponse], seq, event, data string, recipients int32) *pealv1.TailedMessage {
		t.Helper()
		m := receive(t, tail).GetMessage()
		if !strings.HasSuffix(m.GetId(), seq) || m.GetEvent() != event || m.GetData() != data || m.GetRecipients() != recipients ||
			time.Since(m.GetTime().AsTime()) > time.Minute {
			t.Errorf("message %v, want %s of type %s to %d", m, seq, event, recipients)
		}
		return m
	}
	for _, tail := range []grpc.ServerStreamingClient[pealv1.TailResponse]{all, everyone} {
		if m := want(tail, "-1", "news", "an\nalle", 2); !m.GetEveryone() {
			t.Errorf("audience %v", m.GetAudience())
		}
	}
	for _, tail := range []grpc.ServerStreamingClient[pealv1.TailResponse]{all, alice} {
		if m := want(tail, "-2", "individual", "hers", 1); m.GetUserId() != "alice" {
			t.Errorf("audience %v", m.GetAudience())
		}
	}
	want(all, "-3", "individual", "lost", 0)
	for _, tail := range []grpc.ServerStreamingClient[pealv1.TailResponse]{all, orders} {
		if m := want(tail, "-4", "topic", "paid", 1); m.GetTopic() != "orders.7" {
			t.Errorf("audience %v", m.GetAudience())
		}
	}

	if stats := b.Stats(); stats.Total.Connections != 2 || stats.Users != 1 {
		t.Errorf("tails are counted as streams: %+v", stats.Total)
	}

	t.Run("from the history", func(t *testing.T) {
		tail := p.tail(t, &pealv1.TailRequest{LastEventId: first})
		want(tail, "-1", "news", "an\nalle", 2)
	})
	t.Run("after an id of another daemon", func(t *testing.T) {
		tail := p.tail(t, &pealv1.TailRequest{LastEventId: "zz-9"})
		if gap := receive(t, tail).GetGap(); gap.GetReason() != "unknown" || gap.GetMessages() != 0 {
			t.Errorf("%v", gap)
		}
		if at := receive(t, tail).GetPosition(); !strings.HasSuffix(at, "-4") {
			t.Errorf("the tail starts at %q", at)
		}
	})
}

func TestTailRejects(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)

	for name, c := range map[string]struct {
		req   *pealv1.TailRequest
		query string
		field string
	}{
		"not everyone": {&pealv1.TailRequest{Audience: &pealv1.TailRequest_Everyone{}}, "everyone=false", "everyone"},
		"no user":      {&pealv1.TailRequest{Audience: &pealv1.TailRequest_UserId{}}, "user_id=", "user_id"},
		"no topic":     {&pealv1.TailRequest{Audience: &pealv1.TailRequest_Topic{}}, "topic=", "topic"},
		"bad pattern":  {&pealv1.TailRequest{Audience: &pealv1.TailRequest_Topic{Topic: "a.>.b"}}, "topic=a.%3E.b", "topic"},
		"invalid id":   {&pealv1.TailRequest{LastEventId: "first"}, "last_event_id=first", "last_event_id"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := p.tail(t, c.req).Recv()
			if f := failureOf(t, err); f.code != codes.InvalidArgument || f.fields[c.field] == "" {
				t.Errorf("gRPC: %+v", f)
			}

			reply := p.do(t, http.MethodGet, "/v1/tail?"+c.query, "")
			if f := reply.failure(t); reply.StatusCode != http.StatusBadRequest || f.fields[c.field] == "" {
				t.Errorf("REST: %s %+v", reply.Status, f)
			}
		})
	}

	t.Run("two audiences", func(t *testing.T) {
		reply := p.do(t, http.MethodGet, "/v1/tail?everyone=true&topic=news", "")
		if f := reply.failure(t); reply.StatusCode != http.StatusBadRequest || f.reason != "INVALID_FIELD" || f.fields["topic"] == "" {
			t.Errorf("%s %+v", reply.Status, f)
		}
	})
}

func TestTailOverREST(t *testing.T) {
	p := start(t, control.Config{Tokens: []control.Token{
		{Name: "ops", Token: "the operator's token", Scopes: []string{"admin", "publish"}},
		{Name: "shop", Token: "the shop's token", Scopes: []string{"publish"}},
	}}, startBroker(t), nil)

	denied := p.do(t, http.MethodGet, "/v1/tail", "", "Authorization", "Bearer the shop's token")
	if f := denied.failure(t); denied.StatusCode != http.StatusForbidden || f.reason != "CONTROL_SCOPE_MISSING" {
		t.Errorf("%s %+v", denied.Status, f)
	}

	unknown := p.do(t, http.MethodGet, "/v1/tail", "")
	if f := unknown.failure(t); unknown.StatusCode != http.StatusUnauthorized || f.reason != "CONTROL_TOKEN_MISSING" || unknown.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("%s %+v", unknown.Status, f)
	}

	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/v1/tail?topic=orders.*", nil)
	if err != nil {
		t.Fatal(err)
	}

	r.Header.Set("Authorization", "Bearer the operator's token")
	reply, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reply.Body.Close() }()
	if got := reply.Header.Get("Content-Type"); reply.StatusCode != http.StatusOK || got != "application/json" || reply.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s, %s", reply.Status, got)
	}

	lines := bufio.NewScanner(reply.Body)
	next := func() (line struct {
		Result struct {
			Position string
			Message  struct{ Topic, Data, Event string }
		}

		Error struct {
			Code    codes.Code
			Message string
		}
	}) {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("the tail ended: %v", lines.Err())
		}

		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%v: %q", err, lines.Text())
		}

		return line
	}

	if at := next().Result.Position; at == "" {
		t.Error("the tail doesn't start with a position")
	}

	p.do(t, http.MethodPost, "/v1/topics/orders.7/messages", `{"data":"paid <&>"}`, "Authorization", "Bearer the operator's token")
	if m := next().Result.Message; m.Topic != "orders.7" || m.Data != "paid <&>" || m.Event != "topic" {
		t.Errorf("%+v", m)
	}

	p.service.EndCalls()
	if end := next().Error; end.Code != codes.Unavailable || !strings.Contains(end.Message, "shutting down") {
		t.Errorf("%+v", end)
	}

	if lines.Scan() {
		t.Errorf("line after the end: %q", lines.Text())
	}
}

func TestTailEndsWithTheDaemon(t *testing.T) {
	for name, end := range map[string]func(*plane, *broker.Broker){
		"drained":         func(p *plane, _ *broker.Broker) { p.service.EndCalls() },
		"a closed broker": func(_ *plane, b *broker.Broker) { b.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t)
			p := start(t, control.Config{}, b, nil)
			tail := p.tail(t, &pealv1.TailRequest{})
			receive(t, tail)
			end(p, b)
			_, err := tail.Recv()
			if f := failureOf(t, err); f.code != codes.Unavailable || f.reason != "STOPPING" {
				t.Errorf("%+v", f)
			}
		})
	}
}
