package control_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

func publishTo(t *testing.T, b *broker.Broker, m broker.Message) (id string) {
	t.Helper()
	r, err := b.Publish(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return r.ID
}

func broadcasts() *pealv1.ListMessagesRequest_Everyone {
	return &pealv1.ListMessagesRequest_Everyone{Everyone: true}
}

// messagePages reads all pages and returns the data of their messages.
func (p *plane) messagePages(t *testing.T, req *pealv1.ListMessagesRequest) (data []string) {
	t.Helper()
	for {
		resp, err := p.ListMessages(t.Context(), req)
		if err != nil {
			t.Fatalf("%v: %v", req, err)
		}
		for _, m := range resp.GetMessages() {
			data = append(data, m.GetData())
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return data
		}
	}
}

func TestListMessages(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	first := publishTo(t, b, broker.Message{Audience: broker.ToTopic("prices/€"), Data: "0\r\n1", Event: "price"})
	for i := 1; i < 25; i++ {
		publishTo(t, b, broker.Message{Audience: broker.ToTopic("prices/€"), Data: fmt.Sprint(i)})
	}
	publishTo(t, b, broker.Message{Audience: broker.ToUser("alice"), Data: "for alice"})
	end := publishTo(t, b, broker.Message{Audience: broker.Everyone(), Data: "for all"})

	want := []string{"0\n1"}
	for i := 1; i < 25; i++ {
		want = append(want, fmt.Sprint(i))
	}
	topic := &pealv1.ListMessagesRequest_Topic{Topic: "prices/€"}
	newest := slices.Clone(want)
	slices.Reverse(newest)
	for _, size := range []int32{0, 1, 7, 24, 25, 1000} {
		for order, want := range map[string][]string{"": want, "oldest": want, "newest": newest} {
			if got := p.messagePages(t, &pealv1.ListMessagesRequest{Audience: topic, PageSize: size, Order: order}); !slices.Equal(got, want) {
				t.Errorf("pages of %d, order %q: %q", size, order, got)
			}
		}
	}
	if got := p.messagePages(t, &pealv1.ListMessagesRequest{Audience: topic, AfterId: first, PageSize: 2}); !slices.Equal(got, want[1:]) {
		t.Errorf("after the first: %q", got)
	}

	type message struct{ ID, Event, Data, Time string }
	var reply struct {
		Messages      []message
		Position      string
		NextPageToken string
	}
	rest := p.do(t, "GET", "/v1/topics/"+url.PathEscape("prices/€")+"/messages?page_size=1", "")
	if err := json.Unmarshal([]byte(rest.body), &reply); err != nil || len(reply.Messages) != 1 {
		t.Fatalf("%v: %s", err, rest.body)
	}
	at, err := time.Parse(time.RFC3339Nano, reply.Messages[0].Time)
	if err != nil || time.Since(at) > time.Minute {
		t.Errorf("time %q, %v", reply.Messages[0].Time, err)
	}
	reply.Messages[0].Time = ""
	if reply.Messages[0] != (message{ID: first, Event: "price", Data: "0\n1"}) || reply.Position != first || reply.NextPageToken == "" {
		t.Errorf("REST: %s", rest.body)
	}

	for path, want := range map[string]string{
		"/v1/users/alice/messages": `{"messages":[{"id":"ID","event":"individual","data":"for alice","time":"`,
		"/v1/broadcast":            `{"messages":[{"id":"ID","event":"broadcast","data":"for all","time":"`,
		"/v1/users/bob/messages":   `{"messages":[],"position":"` + end + `","nextPageToken":""}` + "\n",
	} {
		got := p.do(t, "GET", path+"?order=newest", "")
		if err := json.Unmarshal([]byte(got.body), &reply); err != nil {
			t.Fatal(err)
		}
		if len(reply.Messages) > 0 {
			want = strings.Replace(want, "ID", reply.Messages[0].ID, 1)
		}
		if !strings.HasPrefix(got.body, want) || !strings.HasSuffix(got.body, `"position":"`+end+`","nextPageToken":""}`+"\n") {
			t.Errorf("GET %s: %s", path, got.body)
		}
	}
}

func TestListRetainedMessages(t *testing.T) {
	b := startBroker(t)
	b.Reconfigure(broker.Config{
		QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect, Heartbeat: time.Minute, Retry: time.Second, WriteTimeout: time.Minute,
		Retain: broker.Retain{MaxEvents: 10, MaxBytes: 1 << 20}, History: broker.History{MaxEvents: 1, MaxBytes: 1 << 20},
	})
	p := start(t, control.Config{}, b, nil)
	for i := range 4 {
		publishTo(t, b, broker.Message{Audience: broker.ToUser("alice"), Data: fmt.Sprint(i), Retain: true, ConflateKey: fmt.Sprint(i % 3)})
	}
	alice := &pealv1.ListMessagesRequest_UserId{UserId: "alice"}
	for _, size := range []int32{1, 2, 3} {
		if got := p.messagePages(t, &pealv1.ListMessagesRequest{Audience: alice, Retained: true, PageSize: size}); strings.Join(got, " ") != "1 2 3" {
			t.Errorf("pages of %d: %q", size, got)
		}
	}
	if got := p.messagePages(t, &pealv1.ListMessagesRequest{Audience: alice}); strings.Join(got, " ") != "3" {
		t.Errorf("history: %q", got)
	}
}

func TestListMessagesFromOutsideOfTheHistory(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	old, err := b.Position()
	if err != nil {
		t.Fatal(err)
	}
	b.Reconfigure(broker.Config{
		QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect, Heartbeat: time.Minute, Retry: time.Second, WriteTimeout: time.Minute,
		History: broker.History{MaxEvents: 2, MaxBytes: 1 << 20},
	})
	publishTo(t, b, broker.Message{Audience: broker.Everyone(), Data: "1"})
	oldest := publishTo(t, b, broker.Message{Audience: broker.Everyone(), Data: "2"})
	publishTo(t, b, broker.Message{Audience: broker.Everyone(), Data: "3"})

	for id, reason := range map[string]string{old: "POSITION_EXPIRED", "abc-7": "POSITION_UNKNOWN"} {
		_, err := p.ListMessages(t.Context(), &pealv1.ListMessagesRequest{Audience: broadcasts(), AfterId: id})
		f := failureOf(t, err)
		if f.code != codes.OutOfRange || f.reason != reason || !strings.Contains(f.message, id) || !strings.Contains(f.message, oldest) {
			t.Errorf("after %s: %+v, want %s and the oldest event %s", id, f, reason, oldest)
		}
		info, ok := status.Convert(err).Details()[0].(*errdetails.ErrorInfo)
		if !ok || info.GetMetadata()["oldest"] != oldest || info.GetMetadata()["id"] != id {
			t.Errorf("after %s: details %v", id, info)
		}
		if rest := p.do(t, "GET", "/v1/broadcast?after_id="+id, ""); rest.StatusCode != 400 || rest.failure(t).reason != reason {
			t.Errorf("REST, after %s: %s %s", id, rest.Status, rest.body)
		}
	}
}

// TestListMessagesRejectsTokens checks that a page token is accepted only for the request
// that it belongs to.
func TestListMessagesRejectsTokens(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	first := publishTo(t, b, broker.Message{Audience: broker.ToTopic("a"), Data: "1"})
	for range 3 {
		publishTo(t, b, broker.Message{Audience: broker.ToTopic("a"), Data: "x"})
	}
	topic := func(name string) *pealv1.ListMessagesRequest_Topic {
		return &pealv1.ListMessagesRequest_Topic{Topic: name}
	}
	page, err := p.ListMessages(t.Context(), &pealv1.ListMessagesRequest{Audience: topic("a"), AfterId: first, PageSize: 1, Order: "newest"})
	if err != nil {
		t.Fatal(err)
	}
	token := page.GetNextPageToken()
	for problem, req := range map[string]*pealv1.ListMessagesRequest{
		"different order":    {Audience: topic("a"), AfterId: first},
		"different audience": {Audience: &pealv1.ListMessagesRequest_UserId{UserId: "a"}, AfterId: first, Order: "newest"},
		"different after_id": {Audience: topic("a"), AfterId: page.GetPosition(), Order: "newest"},
		"different retained": {Audience: topic("a"), AfterId: first, Order: "newest", Retained: true},
	} {
		req.PageToken = token
		_, err := p.ListMessages(t.Context(), req)
		if f := failureOf(t, err); f.code != codes.InvalidArgument || !strings.Contains(f.fields["page_token"], problem) {
			t.Errorf("%s: %+v", problem, f)
		}
	}
	if got := p.messagePages(t, &pealv1.ListMessagesRequest{Audience: topic("a"), AfterId: first, Order: "newest", PageToken: token}); len(got) != 2 {
		t.Errorf("the next page has %q", got)
	}

	_, err = p.ListMessages(t.Context(), &pealv1.ListMessagesRequest{Audience: topic("*"), AfterId: "7", PageSize: 1001, PageToken: "?", Order: "up"})
	if f := failureOf(t, err); len(f.fields) != 5 {
		t.Errorf("five invalid fields: %+v", f)
	}
}

func TestListMessagesRejectsAudiences(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	for field, req := range map[string]*pealv1.ListMessagesRequest{
		"audience": {},
		"everyone": {Audience: &pealv1.ListMessagesRequest_Everyone{}},
		"user_id":  {Audience: &pealv1.ListMessagesRequest_UserId{}},
		"topic":    {Audience: &pealv1.ListMessagesRequest_Topic{Topic: "a.>"}},
	} {
		_, err := p.ListMessages(t.Context(), req)
		if f := failureOf(t, err); f.code != codes.InvalidArgument || len(f.fields) != 1 || f.fields[field] == "" {
			t.Errorf("%s: %+v", field, f)
		}
	}
}

// FuzzMessageToken checks that a page token is either rejected, or is one that a reply
// could have had.
func FuzzMessageToken(f *testing.F) {
	f.Add("newest history 0123456789abcdef - a-1 a-2")
	f.Add("oldest retained 0123456789abcdef abc-18446744073709551615 a-0 a-2")
	f.Add("oldest history 0123456789abcdeF - a-01 -")
	f.Add("  history   ")

	b := startBroker(f)
	p := start(f, control.Config{}, b, nil)
	f.Fuzz(func(t *testing.T, text string) {
		_, err := p.ListMessages(t.Context(), &pealv1.ListMessagesRequest{Audience: broadcasts(), PageToken: base64.RawURLEncoding.EncodeToString([]byte(text))})
		switch st := status.Convert(err); st.Code() {
		case codes.OutOfRange: // it is from another event log
		case codes.InvalidArgument:
			if fields := failureOf(t, err).fields; len(fields) != 1 || fields["page_token"] == "" && text != "" {
				t.Errorf("%q: %v", text, fields)
			}
		case codes.OK:
			if text != "" {
				t.Errorf("%q is accepted", text)
			}
		default:
			t.Errorf("%q: %v", text, err)
		}
		if again, ok := control.ReencodeMessageToken(text); ok && again != text {
			t.Errorf("%q is accepted, but has the form %q", text, again)
		}
	})
}
