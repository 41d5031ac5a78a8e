package control_test

import (
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// A publisher that received no reply sends its message again, over gRPC or REST,
// without a duplicate.
func TestIdempotencyKey(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	alice := stream(t, b, "alice")

	const body = `{"data":"paid","idempotencyKey":"payment-7"}`
	first := p.do(t, "POST", "/v1/users/alice/messages", body)
	if first.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", first.Status, first.body)
	}
	stream(t, b, "alice")
	if again := p.do(t, "POST", "/v1/users/alice/messages", body); again.body != first.body {
		t.Errorf("second reply %s, first %s", again.body, first.body)
	}
	reply, err := p.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Data: "paid", IdempotencyKey: "payment-7"})
	if err != nil || !strings.Contains(first.body, `"`+reply.GetId()+`"`) || reply.GetRecipients() != 1 {
		t.Errorf("gRPC: %v, %v; first reply %s", reply, err, first.body)
	}

	for name, req := range map[string]*pealv1.SendToUserRequest{
		"other data":         {UserId: "alice", Data: "unpaid", IdempotencyKey: "payment-7"},
		"another user":       {UserId: "bob", Data: "paid", IdempotencyKey: "payment-7"},
		"another type":       {UserId: "alice", Data: "paid", IdempotencyKey: "payment-7", Event: "x"},
		"another ttl":        {UserId: "alice", Data: "paid", IdempotencyKey: "payment-7", Ttl: durationpb.New(time.Minute)},
		"another conflation": {UserId: "alice", Data: "paid", IdempotencyKey: "payment-7", ConflateKey: "x"},
	} {
		_, err := p.SendToUser(t.Context(), req)
		if f := failureOf(t, err); f.code != codes.AlreadyExists || f.reason != "IDEMPOTENCY_KEY_USED" || !strings.Contains(f.message, "idempotency_key") {
			t.Errorf("%s: %+v", name, f)
		}
	}
	conflict := p.do(t, "POST", "/v1/broadcast", body)
	if f := conflict.failure(t); conflict.StatusCode != http.StatusConflict || f.reason != "IDEMPOTENCY_KEY_USED" {
		t.Errorf("another RPC: %s %+v", conflict.Status, f)
	}

	if _, err := p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "the end"}); err != nil {
		t.Fatal(err)
	}
	alice.waitFor(t, "data: the end\n\n")
	if n := strings.Count(alice.text(), "data: paid\n"); n != 1 {
		t.Errorf("alice received the message %d times, want once", n)
	}
}

func TestConcurrentCallsWithOneKey(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	ids := make([]string, 50)
	var callers sync.WaitGroup
	for i := range ids {
		callers.Go(func() {
			reply, err := p.Publish(t.Context(), &pealv1.PublishRequest{Topic: "orders", Data: "one", IdempotencyKey: "k"})
			if err != nil {
				t.Error(err)
			}
			ids[i] = reply.GetId()
		})
	}
	callers.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("ids %s and %s, want only one", id, ids[0])
		}
	}
	if n := b.Stats().Published; n != 1 {
		t.Errorf("%d events were published, want 1", n)
	}
}

func TestTTLAndKeysReachTheBroker(t *testing.T) {
	var got broker.Message
	p := start(t, control.Config{}, &fakeBroker{publish: func(m broker.Message) (broker.Receipt, error) {
		got = m
		return broker.Receipt{ID: "e-1"}, nil
	}}, nil)
	const fields = `"data":"d","event":"e","idempotencyKey":"i","conflateKey":"c","ttl":"1.5s"`
	for call, to := range map[string]broker.Audience{
		"/v1/broadcast {":                                    broker.Everyone(),
		"/v1/users/alice/messages {":                         broker.ToUser("alice"),
		"/v1/topics/orders/messages {":                       broker.ToTopic("orders"),
		`/v1/messages {"everyone":true,`:                     broker.Everyone(),
		`/v1/messages {"userId":"alice",`:                    broker.ToUser("alice"),
		`/v1/messages {"topic":"orders",`:                    broker.ToTopic("orders"),
		`/v1/messages {"topics":["orders"],`:                 broker.ToTopic("orders"),
		`/v1/messages:batch {"messages":[{"topic":"orders",`: broker.ToTopic("orders"),
	} {
		path, start, _ := strings.Cut(call, " ")
		body := start + fields + "}"
		if strings.HasSuffix(path, ":batch") {
			body += "]}"
		}
		want := broker.Message{Audience: to, Event: "e", Data: "d", IdempotencyKey: "i", ConflateKey: "c", TTL: 1500 * time.Millisecond}
		if reply := p.do(t, "POST", path, body); reply.StatusCode != http.StatusOK || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s, published %+v", path, reply.Status, got)
		}
	}
}

func TestInvalidTTLAndKeys(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)

	for name, c := range map[string]struct {
		json, field, contains string
	}{
		"zero":               {`"ttl":"0s"`, "ttl", "0s"},
		"negative":           {`"ttl":"-1s"`, "ttl", "-1s"},
		"over a year":        {`"ttl":"31536000.000000001s"`, "ttl", "365 days"},
		"long key":           {`"idempotencyKey":"` + strings.Repeat("k", 129) + `"`, "idempotency_key", "129"},
		"key with LF":        {`"idempotencyKey":"a\nb"`, "idempotency_key", "control"},
		"long conflate key":  {`"conflateKey":"` + strings.Repeat("é", 65) + `"`, "conflate_key", "130"},
		"conflate key's NUL": {`"conflateKey":"\u0000"`, "conflate_key", "control"},
	} {
		for _, path := range []string{"/v1/broadcast", "/v1/users/alice/messages", "/v1/topics/orders/messages"} {
			got := p.do(t, "POST", path, `{"data":"hi",`+c.json+`}`)
			f := got.failure(t)
			if got.StatusCode != http.StatusBadRequest || f.reason != "INVALID_FIELD" || len(f.fields) != 1 || !strings.Contains(f.fields[c.field], c.contains) {
				t.Errorf("%s at %s: %s %+v", name, path, got.Status, f)
			}
		}
	}

	_, err := p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "hi", Ttl: &durationpb.Duration{Seconds: 1, Nanos: -1}})
	if f := failureOf(t, err); f.code != codes.InvalidArgument || !strings.Contains(f.fields["ttl"], "not a valid duration") {
		t.Errorf("invalid duration: %+v", f)
	}

	if n := b.Stats().Published; n != 0 {
		t.Errorf("%d events were published, want none", n)
	}
}
