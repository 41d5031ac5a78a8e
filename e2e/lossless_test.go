package e2e_test

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

// open requests a stream and returns the response. Its body is closed when the
// test ends.
func open(t *testing.T, stream string, header ...string) *http.Response {
	t.Helper()

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, stream, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	request.Header.Set("Accept", "text/event-stream")

	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}

	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = response.Body.Close() })

	return response
}

// with adds parameters to the URL of a stream.
func with(stream string, names ...string) string {
	separator := "?"
	if strings.Contains(stream, "?") {
		separator = "&"
	}

	query := url.Values{}
	for i := 0; i+1 < len(names); i += 2 {
		query.Add(names[i], names[i+1])
	}

	return stream + separator + query.Encode()
}

// TestTopics subscribes to the topics in a token that was created over REST and,
// without a token, to topics that the configuration allows.
func TestTopics(t *testing.T) {
	d := pealdtest.Start(t, func(cfg *daemon.Config) { cfg.Auth.AnonymousTopics = []string{"news", "prices.*"} })

	var token pealv1.CreateTokenResponse

	rest(t, d, http.MethodPost, "/v1/tokens", `{"userId":"alice","topics":["orders.*","chat/room 1"]}`, &token)
	alice := with(d.Events(t, ""), "access_token", token.GetToken())
	events := d.Events(t, "")

	streams := map[string]func(int) ([]frame, error){
		"alice":    inGoSSE(t, with(alice, "topic", "orders.*", "topic", "chat/room 1")),
		"news":     inGoSSE(t, with(events, "topic", "news")),
		"prices":   inGoSSE(t, with(events, "topic", "prices.*")),
		"no topic": inGoSSE(t, events),
	}

	d.WaitForStreams(t, int32(len(streams)))

	want := map[string][]frame{}

	for _, message := range []struct{ topic, path, to string }{
		{"orders.7", "orders.7", "alice"},
		{"chat/room 1", "chat%2Froom%201", "alice"},
		{"news", "news", "news"},
		{"prices.eur", "prices.eur", "prices"},
		{"prices", "prices", ""},
		{"orders.7.paid", "orders.7.paid", ""},
	} {
		var sent pealv1.PublishResponse

		rest(t, d, http.MethodPost, "/v1/topics/"+message.path+"/messages", `{"data":"of `+message.topic+`"}`, &sent)

		if recipients := int32(min(len(message.to), 1)); sent.GetRecipients() != recipients {
			t.Errorf("%s has %d recipients, want %d", message.topic, sent.GetRecipients(), recipients)
		}

		want[message.to] = append(want[message.to], frame{"topic", "of " + message.topic, sent.GetId()})
	}

	var end pealv1.BroadcastResponse

	rest(t, d, http.MethodPost, "/v1/broadcast", `{"data":"end"}`, &end)

	for name, stream := range streams {
		all := append(slices.Clone(want[name]), frame{"broadcast", "end", end.GetId()})
		if got, err := stream(len(all)); err != nil || !slices.Equal(got, all) {
			t.Errorf("%s received %v, %v, want %v", name, got, err, all)
		}
	}

	var listed pealv1.ListTopicsResponse

	rest(t, d, http.MethodGet, "/v1/topics?prefix=pri", "", &listed)

	if topics := listed.GetTopics(); len(topics) != 1 || topics[0].GetTopic() != "prices.*" || topics[0].GetSubscribers() != 1 {
		t.Errorf("topics are %v", topics)
	}

	for name, c := range map[string]struct {
		stream string
		status int
		reason string
	}{
		"not in the token":  {with(alice, "topic", "orders.7", "topic", "prices.eur"), http.StatusForbidden, `"prices.eur"`},
		"not anonymous":     {with(events, "topic", "orders.7"), http.StatusForbidden, `"orders.7"`},
		"wider pattern":     {with(events, "topic", "prices.>"), http.StatusForbidden, `"prices.>"`},
		"invalid pattern":   {with(events, "topic", "a.>.b"), http.StatusBadRequest, "topic"},
		"a hundred and one": {with(events, numbered(101)...), http.StatusBadRequest, "topic is given 101 times"},
		"two thousand":      {with(events, numbered(2_000)...), http.StatusBadRequest, "topic"},
		"ten thousand":      {with(events, numbered(10_000)...), http.StatusRequestHeaderFieldsTooLarge, ""},
	} {
		response := open(t, c.stream)

		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != c.status || !strings.Contains(string(body), c.reason) {
			t.Errorf("%s: %s %s%v, want %d with %q", name, response.Status, body, err, c.status, c.reason)
		}
	}
}

// numbered returns query parameters with n topics that are open to everyone.
func numbered(n int) []string {
	topics := make([]string, 0, 2*n)
	for i := range n {
		topics = append(topics, "topic", fmt.Sprintf("prices.%d", i))
	}

	return topics
}

// TestResume resumes after an event: with a header, as EventSource does, and with
// a query parameter, as a reloaded page does.
func TestResume(t *testing.T) {
	d := pealdtest.Start(t)
	control := d.Control(t)
	alice := d.Events(t, "alice")

	send := func(request *pealv1.SendToUserRequest) frame {
		t.Helper()

		sent, err := control.SendToUser(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}

		return frame{"individual", request.GetData(), sent.GetId()}
	}

	first := send(&pealv1.SendToUserRequest{UserId: "alice", Data: "first"})
	rest(t, d, http.MethodPost, "/v1/users/alice/messages", `{"data":"expired","ttl":"0.000000001s"}`, &pealv1.SendToUserResponse{})
	send(&pealv1.SendToUserRequest{UserId: "bob", Data: "not for alice"})
	missed := []frame{
		send(&pealv1.SendToUserRequest{UserId: "alice", Data: "second"}),
		send(&pealv1.SendToUserRequest{UserId: "alice", Data: "third"}),
	}

	byQuery := inGoSSE(t, with(alice, "last_event_id", first.ID))

	// The header takes precedence. The missed events follow the first position
	// mark.
	byHeader := open(t, with(alice, "last_event_id", missed[1].ID), "Last-Event-ID", first.ID)
	want := "\n\nid: " + missed[0].ID + "\nevent: individual\ndata: second\n\nid: " + missed[1].ID + "\nevent: individual\ndata: third\n\n"
	got := make([]byte, 0, 256)

	for !strings.HasSuffix(string(got), "third\n\n") {
		read := make([]byte, 256)

		n, err := byHeader.Body.Read(read)
		if got = append(got, read[:n]...); err != nil {
			t.Fatalf("%v after %q", err, got)
		}
	}

	if !strings.HasSuffix(string(got), want) || strings.Count(string(got), "data: ") != 2 {
		t.Errorf("resuming by header: received %q, want %q", got, want)
	}

	d.WaitForStreams(t, 2)

	all := slices.Concat(missed, []frame{send(&pealv1.SendToUserRequest{UserId: "alice", Data: "live"})})
	if got, err := byQuery(len(all)); err != nil || !slices.Equal(got, all) {
		t.Errorf("resuming by query: received %v, %v, want %v", got, err, all)
	}

	// Clients that can't resume get a reset.
	for id, reason := range map[string]string{"other-7": "unknown", "nonsense": "unknown"} {
		response := open(t, alice, "Last-Event-ID", id)
		read := make([]byte, 512)

		n, err := io.ReadAtLeast(response.Body, read, len("retry: 3000\n\n"))
		if !strings.Contains(string(read[:n]), "event: peald.reset\ndata: {\"reason\":\""+reason+"\",\"last_event_id\":\""+id+"\"}\n\n") {
			t.Errorf("resuming after %s: received %q, %v", id, read[:n], err)
		}
	}

	if response := open(t, with(alice, "last_event_id", "nonsense")); response.StatusCode != http.StatusBadRequest {
		t.Errorf("invalid last_event_id: %s, want 400", response.Status)
	} else if body, err := io.ReadAll(response.Body); err != nil || !strings.HasPrefix(string(body), "last_event_id is ") {
		t.Errorf("invalid last_event_id: body %q, %v", body, err)
	}

	stats, err := control.Stats(t.Context(), &pealv1.StatsRequest{})
	if err != nil || stats.GetResumes().GetReplayed() != 2 || stats.GetResumes().GetResets()["unknown"] != 2 {
		t.Errorf("resumes are %v, %v", stats.GetResumes(), err)
	}
}

// TestDisconnect closes a user's streams and bans the user for a while.
func TestDisconnect(t *testing.T) {
	d := pealdtest.Start(t)
	user := "zoë/1:2"
	stream := d.Events(t, user)
	held := open(t, stream)

	d.WaitForStreams(t, 1)

	var reply pealv1.DisconnectResponse

	begun := time.Now()

	rest(t, d, http.MethodPost, "/v1/users/"+url.PathEscape(user)+":disconnect", `{"for":"1s"}`, &reply)

	if reply.GetConnections() != 1 {
		t.Errorf("%d streams closed, want 1", reply.GetConnections())
	}

	if _, err := io.ReadAll(held.Body); err != nil {
		t.Errorf("the stream was closed with %v", err)
	}

	if response := open(t, stream); response.StatusCode != http.StatusNoContent {
		t.Errorf("a stream during the ban: %s, want 204", response.Status)
	}

	if response := open(t, d.Events(t, "bob")); response.StatusCode != http.StatusOK {
		t.Errorf("a stream for bob: %s, want 200", response.Status)
	}

	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()

	for open(t, stream).StatusCode != http.StatusOK {
		if time.Since(begun) > patience {
			t.Fatal("the user is still banned")
		}

		<-tick.C
	}

	if passed := time.Since(begun); passed < time.Second {
		t.Errorf("the ban ended after %s, want at least 1s", passed)
	}
}

// TestIdempotencyKey publishes a message again, over REST and gRPC, as a backend
// does when it has lost the reply.
func TestIdempotencyKey(t *testing.T) {
	d := pealdtest.Start(t)
	control := d.Control(t)
	stream := inGoSSE(t, d.Events(t, ""))

	d.WaitForStreams(t, 1)

	const message = `{"data":"paid","idempotencyKey":"payment-7"}`

	var first, repeated pealv1.BroadcastResponse

	rest(t, d, http.MethodPost, "/v1/broadcast", message, &first)
	rest(t, d, http.MethodPost, "/v1/broadcast", message, &repeated)

	overGRPC, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "paid", IdempotencyKey: "payment-7"})
	if err != nil || overGRPC.GetId() != first.GetId() || repeated.GetId() != first.GetId() {
		t.Errorf("the IDs are %q, %q and %q, %v, want the same", first.GetId(), repeated.GetId(), overGRPC.GetId(), err)
	}

	code, body := call(t, d, http.MethodPost, "/v1/broadcast", `{"data":"refunded","idempotencyKey":"payment-7"}`)
	if code != http.StatusConflict || !strings.Contains(string(body), "idempotency_key") {
		t.Errorf("another message with the same key: %d %s, want 409", code, body)
	}

	end, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "end"})
	if err != nil {
		t.Fatal(err)
	}

	want := []frame{{"broadcast", "paid", first.GetId()}, {"broadcast", "end", end.GetId()}}
	if got, err := stream(len(want)); err != nil || !slices.Equal(got, want) {
		t.Errorf("the stream received %v, %v, want %v", got, err, want)
	}
}

// TestConflation updates a price many times while a client doesn't read. The
// client must receive fewer prices than were published, including the last one.
func TestConflation(t *testing.T) {
	d := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.Broker.SlowConsumer, cfg.Broker.QueueBytes = daemon.SlowConflate, 64<<10
	})
	control := d.Control(t)
	stuck := open(t, d.Events(t, ""))

	d.WaitForStreams(t, 1)

	const prices = 1_000

	// The prices exceed the socket buffers, even compressed.
	padding := " "
	for len(padding) < 20_000 {
		padding += rand.Text()
	}

	for i := range prices {
		_, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: fmt.Sprint(i, padding), ConflateKey: "price"})
		if err != nil {
			t.Fatal(err)
		}
	}

	if _, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "end"}); err != nil {
		t.Fatal(err)
	}

	lines := bufio.NewScanner(stuck.Body)
	got, last := 0, -1

	for lines.Scan() && lines.Text() != "data: end" {
		var price int
		if n, _ := fmt.Sscanf(lines.Text(), "data: %d ", &price); n == 0 {
			continue
		}

		if got++; price <= last {
			t.Fatalf("received price %d after %d", price, last)
		}

		last = price
	}

	if lines.Err() != nil || lines.Text() != "data: end" || last != prices-1 || got == prices {
		t.Errorf("received %d prices, the last one %d, then %q, %v", got, last, lines.Text(), lines.Err())
	}
}
