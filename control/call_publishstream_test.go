package control_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// messageStream is the client's side of a PublishStream.
type messageStream struct {
	grpc.BidiStreamingClient[pealv1.PublishStreamRequest, pealv1.PublishStreamResponse]

	waiting []*pealv1.PublishAck // received but not yet returned by ack
}

func (p *plane) messages(t *testing.T) *messageStream {
	t.Helper()
	stream, err := p.PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &messageStream{BidiStreamingClient: stream}
}

func (m *messageStream) send(t *testing.T, requests ...*pealv1.PublishStreamRequest) {
	t.Helper()
	for _, r := range requests {
		if err := m.Send(r); err != nil {
			t.Fatal(err)
		}
	}
}

// ack returns the next acknowledgement.
func (m *messageStream) ack() (*pealv1.PublishAck, error) {
	for len(m.waiting) == 0 {
		resp, err := m.Recv()
		if err != nil {
			return nil, err
		}
		m.waiting = resp.GetAcks()
	}
	next := m.waiting[0]
	m.waiting = m.waiting[1:]
	return next, nil
}

func toUser(id, data string) *pealv1.PublishStreamRequest {
	return &pealv1.PublishStreamRequest{Audience: &pealv1.PublishStreamRequest_UserId{UserId: id}, Data: data}
}

func toTopic(topic, data string) *pealv1.PublishStreamRequest {
	return &pealv1.PublishStreamRequest{Audience: &pealv1.PublishStreamRequest_Topic{Topic: topic}, Data: data}
}

func toAll(data string) *pealv1.PublishStreamRequest {
	return &pealv1.PublishStreamRequest{Audience: everyone(), Data: data}
}

func TestPublishStreamContinuesAfterInvalidMessages(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	alice := stream(t, b, "alice", "orders")
	m := p.messages(t)
	keyed, otherKeyed, short := toAll("keyed"), toAll("other"), toAll("short-lived")
	keyed.IdempotencyKey, otherKeyed.IdempotencyKey = "k", "k"
	short.Ttl = durationpb.New(-1)
	var id string

	for i, c := range []struct {
		request    *pealv1.PublishStreamRequest
		recipients int32
		code       codes.Code
		reason     string
		field      string
	}{
		{toAll("first"), 1, 0, "", ""},
		{toUser("alice", "second"), 1, 0, "", ""},
		{toTopic("orders", "third"), 1, 0, "", ""},
		{toTopic("no.subscribers", "unreceived"), 0, 0, "", ""},
		{toAll(""), 0, codes.InvalidArgument, "INVALID_FIELD", "data"},
		{toUser("", "x"), 0, codes.InvalidArgument, "INVALID_FIELD", "user_id"},
		{toTopic("orders.*", "x"), 0, codes.InvalidArgument, "INVALID_FIELD", "topic"},
		{&pealv1.PublishStreamRequest{Data: "x"}, 0, codes.InvalidArgument, "INVALID_FIELD", "audience"},
		{&pealv1.PublishStreamRequest{Audience: &pealv1.PublishStreamRequest_Everyone{}, Data: "x"}, 0, codes.InvalidArgument, "INVALID_FIELD", "everyone"},
		{short, 0, codes.InvalidArgument, "INVALID_FIELD", "ttl"},
		{keyed, 1, 0, "", ""},
		{keyed, 1, 0, "", ""},
		{otherKeyed, 0, codes.AlreadyExists, "IDEMPOTENCY_KEY_USED", ""},
		{toAll("last"), 1, 0, "", ""},
	} {
		m.send(t, c.request)
		ack, err := m.ack() // arrives immediately, without closing the stream
		if err != nil {
			t.Fatal(err)
		}

		rejected := ack.GetError()
		if ack.GetNumber() != int64(i+1) || ack.GetRecipients() != c.recipients || codes.Code(rejected.GetCode()) != c.code || rejected.GetReason() != c.reason {
			t.Errorf("%v was acknowledged with %v", c.request, ack)
		}

		switch {
		case c.code == codes.OK && (ack.GetId() == "" || rejected != nil):
			t.Errorf("%v was acknowledged with %v", c.request, ack)
		case c.field != "" && (len(rejected.GetFieldViolations()) != 1 || rejected.GetFieldViolations()[0].GetField() != c.field ||
			!strings.HasPrefix(rejected.GetFieldViolations()[0].GetDescription(), c.field+" ") || !strings.HasPrefix(rejected.GetMessage(), c.field+" ")):
			t.Errorf("%v was acknowledged with %v", c.request, ack)
		case c.request == keyed && id != "" && ack.GetId() != id:
			t.Errorf("the repetition has the id %s, want %s", ack.GetId(), id)
		case c.request == keyed:
			id = ack.GetId()
		}
	}

	if err := m.CloseSend(); err != nil {
		t.Fatal(err)
	}

	if ack, err := m.ack(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v, %v", ack, err)
	}

	alice.waitFor(t, "data: last\n\n")
	var got []string

	for line := range strings.SplitSeq(alice.text(), "\n") {
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			got = append(got, data)
		}
	}

	if want := "[first second third keyed last]"; fmt.Sprint(got) != want {
		t.Errorf("alice received %v, want %s", got, want)
	}
}

func TestPublishStreamAcknowledgesInOrder(t *testing.T) {
	const messages = 20_000
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	m := p.messages(t)
	var sending sync.WaitGroup
	sending.Go(func() {
		for i := range messages {
			r := toUser("alice", fmt.Sprint(i))
			if i%7 == 0 {
				r.Data = ""
			}

			if err := m.Send(r); err != nil {
				t.Error(err)
				return
			}
		}

		_ = m.CloseSend() // Recv returns the error
	})
	defer sending.Wait()
	before := ""

	for i := range messages {
		ack, err := m.ack()
		if err != nil {
			t.Fatal(err)
		}

		if ack.GetNumber() != int64(i+1) || (ack.GetError() != nil) != (i%7 == 0) {
			t.Fatalf("message %d was acknowledged with %v", i+1, ack)
		}

		if id := ack.GetId(); id != "" {
			if len(id) < len(before) || len(id) == len(before) && id <= before {
				t.Fatalf("id %s follows %s", id, before)
			}

			before = id
		}
	}

	if _, err := m.ack(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}

	if n := b.Stats().Published; n != messages-(messages+6)/7 {
		t.Errorf("%d events were published", n)
	}
}

// The largest messages are accepted. Larger ones are rejected and don't end the
// stream, up to the limit for all requests.
func TestPublishStreamWithLargeMessages(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	m := p.messages(t)
	largest, tooLarge := strings.Repeat("x", broker.MaxData), strings.Repeat("x", 3<<20)
	for range 10 {
		m.send(t, toAll(largest), toAll(tooLarge))
	}
	for i := range 20 {
		ack, err := m.ack()
		if err != nil || (ack.GetError() != nil) != (i%2 == 1) {
			t.Fatalf("message %d: %v, %v", i+1, ack, err)
		}
	}
	m.send(t, toAll(strings.Repeat("x", control.MaxRequest+1)))
	_, err := m.ack()
	if f := failureOf(t, err); f.code != codes.ResourceExhausted {
		t.Errorf("over the limit: %+v", f)
	}
}

// A message that can't be decoded is rejected like any other invalid message.
func TestPublishStreamWithInvalidEncodings(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	stream, err := p.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		pealv1.ControlService_PublishStream_FullMethodName, grpc.ForceCodecV2(rawCodec{}))
	if err != nil {
		t.Fatal(err)
	}

	for _, raw := range [][]byte{append(field(3, "orders"), field(4, "a\xff")...), field(2, "\xff"), {0xff}, append(field(3, "orders"), field(4, "hi")...)} {
		if err := stream.SendMsg(raw); err != nil {
			t.Fatal(err)
		}
	}

	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}

	m := &messageStream{BidiStreamingClient: &grpc.GenericClientStream[pealv1.PublishStreamRequest, pealv1.PublishStreamResponse]{ClientStream: stream}}

	for i, want := range []string{"data is not valid UTF-8", "user_id is not valid UTF-8", "the request is not a valid peal.v1.PublishStreamRequest", ""} {
		ack, err := m.ack()
		if err != nil || ack.GetNumber() != int64(i+1) || ack.GetError().GetMessage() != want || (ack.GetId() == "") != (want != "") {
			t.Errorf("message %d: %v, %v, want %q", i+1, ack, err, want)
		}
	}

	if _, err := m.ack(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestPublishStreamWithUnexpectedErrors(t *testing.T) {
	var log bytes.Buffer
	p := start(t, control.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, &fakeBroker{publish: func(m broker.Message) (broker.Receipt, error) {
		switch m.Data {
		case "error":
			return broker.Receipt{}, errors.New("inside-91c2 broke")
		case "panic":
			panic("inside-91c2 panicked")
		}

		return broker.Receipt{ID: "e-1"}, nil
	}}, nil)
	m := p.messages(t)
	m.send(t, toAll("error"), toAll("fine"))

	for i, want := range []codes.Code{codes.Internal, codes.OK} {
		if ack, err := m.ack(); err != nil || codes.Code(ack.GetError().GetCode()) != want || strings.Contains(ack.GetError().GetMessage(), "91c2") {
			t.Errorf("message %d: %v, %v", i+1, ack, err)
		}
	}

	m.send(t, toAll("panic"))
	_, err := m.ack()
	if f := failureOf(t, err); f.code != codes.Internal || strings.Contains(f.message, "91c2") {
		t.Errorf("the stream ended with %+v", f)
	}

	if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.Contains(log.String(), "inside-91c2 broke") || !strings.Contains(log.String(), "inside-91c2 panicked") {
		t.Errorf("%d log lines: %s", lines, &log)
	}
}

// Messages that were published before the end are acknowledged. The stream then
// ends with a code that makes clients retry elsewhere.
func TestPublishStreamEndsWithTheDaemon(t *testing.T) {
	for name, end := range map[string]func(*plane, *broker.Broker){
		"drained while idle": func(p *plane, _ *broker.Broker) { p.service.EndCalls() },
		"closed while idle":  func(p *plane, _ *broker.Broker) { p.service.Close() },
		"a closed broker":    func(_ *plane, b *broker.Broker) { b.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t)
			p := start(t, control.Config{}, b, nil)
			m := p.messages(t)
			m.send(t, toAll("hi"))
			if ack, err := m.ack(); err != nil || ack.GetId() == "" {
				t.Fatalf("%v, %v", ack, err)
			}

			end(p, b)
			_ = m.Send(toAll("too late")) // the stream may have ended
			_, err := m.ack()
			if f := failureOf(t, err); f.code != codes.Unavailable || f.reason != "STOPPING" {
				t.Errorf("the stream ended with %+v", f)
			}
		})
	}

	p := start(t, control.Config{}, startBroker(t), nil)
	p.service.EndCalls()
	if _, err := p.messages(t).ack(); failureOf(t, err).reason != "STOPPING" {
		t.Errorf("a new stream: %v, want STOPPING", err)
	}
}

// Flow control blocks a caller that doesn't read its acknowledgements, but no
// other callers.
func TestPublishStreamWithoutReading(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	ctx, cancel := context.WithCancel(t.Context())
	stuck, err := p.PublishStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var sending sync.WaitGroup
	sending.Go(func() {
		for stuck.Send(toAll("x")) == nil { //nolint:revive // until it fails
		}
	})
	m := p.messages(t)
	m.send(t, toAll("from another"))
	if ack, err := m.ack(); err != nil || ack.GetId() == "" {
		t.Errorf("%v, %v", ack, err)
	}
	cancel()
	sending.Wait()
	if _, err := stuck.Recv(); status.Code(err) != codes.Canceled && err != nil {
		t.Errorf("the stream ended with %v", err)
	}
}
