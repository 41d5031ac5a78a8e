package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// batchResult is a result as a REST client reads it.
type batchResult struct {
	ID         *string `json:"id"`
	Recipients *int    `json:"recipients"`
	Error      *struct {
		Code            codes.Code `json:"code"`
		Message, Reason string
		FieldViolations []struct{ Field, Description string }
	} `json:"error"`
}

// batch publishes a batch over REST, and returns the results.
func (p *plane) batch(t *testing.T, body string) (results []batchResult) {
	t.Helper()
	reply := p.do(t, "POST", "/v1/messages:batch", body)
	if reply.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", reply.Status, reply.body)
	}
	var parsed struct{ Results []map[string]json.RawMessage }
	var typed struct{ Results []batchResult }
	if err := errors.Join(json.Unmarshal([]byte(reply.body), &parsed), json.Unmarshal([]byte(reply.body), &typed)); err != nil {
		t.Fatal(err)
	}
	for _, r := range parsed.Results { // either {"id","recipients"} or {"error"}
		if _, failed := r["error"]; failed && len(r) != 1 || !failed && (len(r) != 2 || r["id"] == nil || r["recipients"] == nil) {
			t.Errorf("wrong result in %s", reply.body)
		}
	}
	return typed.Results
}

// errorsOf returns the message of each error, or the empty string.
func errorsOf(results []batchResult) (messages []string) {
	for _, r := range results {
		message := ""
		if r.Error != nil {
			message = r.Error.Message
		}
		messages = append(messages, message)
	}
	return messages
}

func TestPublishBatch(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	alice := stream(t, b, "alice", "orders")
	results := p.batch(t, `{"messages":[
		{"everyone":true,"data":"1"},
		{"user_id":"alice","data":"2","event":"e"},
		{"topic":"orders","data":"3"},
		{"topics":["orders","news"],"data":"4","exclude_user_id":"alice"},
		{"topic":"orders","data":""},
		{"topic":"orders","data":"6","idempotencyKey":"k"},
		{"topic":"orders","data":"6","idempotencyKey":"k"},
		{"topic":"orders","data":"7","idempotencyKey":"k"}]}`)
	want := []string{"", "", "", "", "data is empty; want 1 to 1048576 bytes", "", "", "idempotency_key was already used for a different message; use a new key for each message"}
	if got := errorsOf(results); !reflect.DeepEqual(got, want) {
		t.Fatalf("errors %q, want %q", got, want)
	}
	if e := results[4].Error; e.Code != codes.InvalidArgument || e.Reason != "INVALID_FIELD" || len(e.FieldViolations) != 1 || e.FieldViolations[0].Field != "data" {
		t.Errorf("error %+v", e)
	}
	if e := results[7].Error; e.Code != codes.AlreadyExists || e.Reason != "IDEMPOTENCY_KEY_USED" {
		t.Errorf("error %+v", e)
	}
	if *results[5].ID != *results[6].ID || *results[3].Recipients != 0 || *results[2].Recipients != 1 {
		t.Errorf("results %+v", results)
	}
	alice.waitFor(t, "data: 6\n\n")
	if got := strings.Count(alice.text(), "event: topic\n"); got != 2 {
		t.Errorf("the stream received %s", alice.text())
	}
	if n := b.Stats().Published; n != 5 {
		t.Errorf("%d events were published, want 5", n)
	}
}

// A message that can't be decoded fails alone, with an error that names the problem.
func TestMalformedMessagesInABatch(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	results := p.batch(t, `{"messages":[{"everyone":true,"data":"first"},`+
		`{"topic":5,"data":"x"},{"topic":"a","dta":"x"},"text",7,null,[],{"topic":"a","topic":"b","data":"x"},`+
		"{\"topic\":\"a\",\"data\":\"\xff\"},"+`{"topic":"a","data":"\ud800"},{"topic":"a","userId":"b","data":"x"},{"data":"x"},{"everyone":true,"data":"last"}]}`)
	want := []string{
		"", "topic is 5; want a JSON string", "dta is not a field of this call", "the message is a JSON string; want an object",
		"the message is a JSON number; want an object", "the message is a JSON null; want an object", "the message is a JSON array; want an object",
		"topic is given more than once", "data is not valid UTF-8", "data has an escape that is not a valid character",
		"user_id can't be combined with topic; set only one of them", "audience is missing; set everyone, user_id, topic or topics", "",
	}
	if got := errorsOf(results); !reflect.DeepEqual(got, want) {
		t.Errorf("errors\n%q, want\n%q", got, want)
	}
	if n := b.Stats().Published; n != 2 {
		t.Errorf("%d events were published, want 2", n)
	}
}

func TestInvalidBatches(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	const one = `{"everyone":true,"data":"x"}`
	many := `{"messages":[` + one + strings.Repeat(","+one, 1000) + "]}"

	for body, want := range map[string]string{
		``:                                       "messages has 0 messages; want 1 to 1000",
		`{}`:                                     "messages has 0 messages; want 1 to 1000",
		`{"messages":[]}`:                        "messages has 0 messages; want 1 to 1000",
		`{"messages":null}`:                      "messages has 0 messages; want 1 to 1000",
		many:                                     "messages has 1001 messages; want 1 to 1000",
		`{"messages":[` + one + `],"message":1}`: "message is not a field of this call",
		`{"messages":[` + one + `],"messages":[]}`:                 "messages is given more than once",
		`{"messages":` + one + `}`:                                 `messages is {"everyone":true,"data":"x"}; want a list of messages`,
		`{"messages":7}`:                                           "messages is 7; want a list of messages",
		`[` + one + `]`:                                            "the body is a JSON array; want an object",
		`{"messages":[` + one + `,]}`:                              "the body is not JSON: invalid character ']' looking for beginning of value (byte 43)",
		`{"messages":[` + one + `]`:                                "the body is not JSON: unexpected end of JSON input (byte 42)",
		`{"messages":[` + one + `]} {}`:                            "the body is not JSON: invalid character '{' after top-level value (byte 45)",
		`{"messages":[` + one + `,{"everyone":true,"data":"x}]}`:   "the body is not JSON: unexpected end of JSON input (byte 71)",
		`{"messages":[` + strings.Repeat(one+",", 200_000) + `0]}`: "the body exceeds 4194304 bytes",
		`{"messages":[` + strings.Repeat("1,", 2_000_000) + `1]}`:  "messages has 2000001 messages; want 1 to 1000",
	} {
		if f := p.do(t, "POST", "/v1/messages:batch", body).failure(t); f.message != want {
			t.Errorf("%.80s: %+v, want %s", body, f, want)
		}
	}
	if n := b.Stats().Published; n != 0 {
		t.Errorf("%d events were published", n)
	}
}

// encodedBatch returns an encoded PublishBatchRequest.
func encodedBatch(messages ...[]byte) (encoded []byte) {
	for _, m := range messages {
		encoded = protowire.AppendBytes(protowire.AppendTag(encoded, 1, protowire.BytesType), m)
	}
	return encoded
}

func TestMalformedMessagesInABatchOverGRPC(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	valid := append(field(3, "orders"), field(4, "hi")...)
	reply := new(pealv1.PublishBatchResponse)
	request := encodedBatch(valid, append(field(3, "orders"), field(4, "\xff")...), field(4, "hello")[:4], append(field(11, "a"), field(11, "\xff")...), valid)
	if err := p.conn.Invoke(t.Context(), pealv1.ControlService_PublishBatch_FullMethodName, request, reply, grpc.ForceCodecV2(rawCodec{})); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range reply.GetResults() {
		got = append(got, r.GetError().GetMessage())
	}
	if want := []string{"", "data is not valid UTF-8", "the message is not a valid peal.v1.PublishMessageRequest", "topics is not valid UTF-8", ""}; !reflect.DeepEqual(got, want) {
		t.Errorf("errors %q, want %q", got, want)
	}
	if n := b.Stats().Published; n != 2 {
		t.Errorf("%d events were published, want 2", n)
	}

	for want, request := range map[string][]byte{
		"messages has 0 messages; want 1 to 1000":                nil,
		"messages has 2000000 messages; want 1 to 1000":          []byte(strings.Repeat("\x0a\x00", 2_000_000)),
		"the request is not a valid peal.v1.PublishBatchRequest": encodedBatch(valid)[:9],
	} {
		err := p.conn.Invoke(t.Context(), pealv1.ControlService_PublishBatch_FullMethodName, request, reply, grpc.ForceCodecV2(rawCodec{}))
		if f := failureOf(t, err); f.code != codes.InvalidArgument || f.message != want {
			t.Errorf("%+v, want %s", f, want)
		}
	}
}

// TestBatchIsPipelined checks that a batch doesn't wait for one message before it submits
// the next one.
func TestBatchIsPipelined(t *testing.T) {
	const n = 1000
	p := start(t, control.Config{}, &pipelineBroker{after: n}, nil)
	request := &pealv1.PublishBatchRequest{}
	for i := range n {
		request.Messages = append(request.Messages, &pealv1.PublishMessageRequest{
			Audience: &pealv1.PublishMessageRequest_Everyone{Everyone: true}, Data: fmt.Sprint(i)})
	}
	reply, err := p.PublishBatch(t.Context(), request)
	if err != nil || len(reply.GetResults()) != n {
		t.Fatalf("%d results: %v", len(reply.GetResults()), err)
	}
	for i, r := range reply.GetResults() {
		if r.GetId() != fmt.Sprint("e-", i) {
			t.Fatalf("result %d is %v", i, r)
		}
	}
}

// TestBatchOfAStoppingDaemon checks that the results of published messages aren't lost if
// the daemon stops in the meantime.
func TestBatchOfAStoppingDaemon(t *testing.T) {
	var mu sync.Mutex
	left := 0
	p := start(t, control.Config{}, &fakeBroker{publish: func(broker.Message) (broker.Receipt, error) {
		mu.Lock()
		defer mu.Unlock()
		if left--; left < 0 {
			return broker.Receipt{}, fmt.Errorf("publishing: %w", broker.ErrClosed)
		}
		return broker.Receipt{ID: "e-1"}, nil
	}}, nil)
	const body = `{"messages":[{"topic":"a","data":"1"},{"topic":"a","data":"2"}]}`
	if f := p.do(t, "POST", "/v1/messages:batch", body).failure(t); f.code != codes.Unavailable || f.reason != "STOPPING" {
		t.Errorf("%+v, want UNAVAILABLE", f)
	}
	mu.Lock()
	left = 1
	mu.Unlock()
	results := p.batch(t, body)
	if len(results) != 2 || results[0].Error != nil || results[1].Error == nil || results[1].Error.Reason != "STOPPING" {
		t.Errorf("results %+v", results)
	}
}

func TestBatchesCountTowardsTheRateLimit(t *testing.T) {
	p := start(t, control.Config{RateLimit: 10}, startBroker(t), nil)
	batch := func(n int) string {
		return `{"messages":[` + strings.TrimSuffix(strings.Repeat(`{"everyone":true,"data":"x"},`, n), ",") + "]}"
	}
	if f := p.do(t, "POST", "/v1/messages:batch", batch(11)).failure(t); f.reason != "RATE_LIMIT" || !strings.Contains(f.message, "11 messages exceeds 10 calls") {
		t.Errorf("%+v", f)
	}
	start := time.Now()
	p.batch(t, batch(6))
	if f := p.do(t, "POST", "/v1/messages:batch", batch(10)); time.Since(start) < 500*time.Millisecond && f.StatusCode != http.StatusTooManyRequests {
		t.Errorf("two batches passed within %v: %s", time.Since(start), f.body)
	}
}

// pipelineBroker is a [control.Pipeline] that publishes nothing before it has a certain
// number of messages.
type pipelineBroker struct {
	fakeBroker

	after int

	mu        sync.Mutex
	submitted int
	enough    chan struct{}
}

func (b *pipelineBroker) Submit(context.Context, broker.Message) (func(context.Context) (broker.Receipt, error), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.enough == nil {
		b.enough = make(chan struct{})
	}
	id := fmt.Sprint("e-", b.submitted)
	if b.submitted++; b.submitted == b.after {
		close(b.enough)
	}
	return func(ctx context.Context) (broker.Receipt, error) {
		select {
		case <-b.enough:
			return broker.Receipt{ID: id}, nil
		case <-ctx.Done():
			return broker.Receipt{}, ctx.Err()
		}
	}, nil
}
