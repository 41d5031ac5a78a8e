package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

// TestBothWaysReachTheSameStreams calls the control plane by gRPC and by REST,
// and reads what comes out of streams.
func TestBothWaysReachTheSameStreams(t *testing.T) {
	pealdtest.OnEachEngine(t, testBothWaysReachTheSameStreams)
}

func testBothWaysReachTheSameStreams(t *testing.T, engine func(*daemon.Config)) {
	t.Helper()

	d := pealdtest.Start(t, engine)
	control := d.Control(t)

	streams := map[string][]func(int) ([]frame, error){}
	for _, user := range []string{"alice", "alice", "bob", ""} {
		streams[user] = append(streams[user], inGoSSE(t, d.Events(t, user)))
	}

	d.WaitForStreams(t, 4)

	sent := func(recipients, want int32) {
		t.Helper()

		if recipients != want {
			t.Errorf("an event was queued to %d streams, want %d", recipients, want)
		}
	}

	var everybody pealv1.BroadcastResponse

	rest(t, d, http.MethodPost, "/v1/broadcast", `{"data": "one\ntwo"}`, &everybody)
	sent(everybody.GetRecipients(), 4)

	toAlice, err := control.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Data: "hi"})
	if err != nil {
		t.Fatal(err)
	}

	sent(toAlice.GetRecipients(), 2)

	var toBob pealv1.SendToUserResponse

	rest(t, d, http.MethodPost, "/v1/users/bob/messages", `{"data": "hi", "event": "greeting"}`, &toBob)
	sent(toBob.GetRecipients(), 1)

	toCarol, err := control.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "carol", Data: "hi"})
	if err != nil {
		t.Fatal(err)
	}

	sent(toCarol.GetRecipients(), 0)

	last, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "end"})
	if err != nil {
		t.Fatal(err)
	}

	first, end := frame{"broadcast", "one\ntwo", everybody.GetId()}, frame{"broadcast", "end", last.GetId()}
	for user, want := range map[string][]frame{
		"alice": {first, {"individual", "hi", toAlice.GetId()}, end},
		"bob":   {first, {"greeting", "hi", toBob.GetId()}, end},
		"":      {first, end},
	} {
		for _, stream := range streams[user] {
			if got, err := stream(len(want)); err != nil || !slices.Equal(got, want) {
				t.Errorf("%q got %v and %v, want %v", user, got, err, want)
			}
		}
	}

	t.Run("users and figures", func(t *testing.T) {
		users, err := control.ListUsers(t.Context(), &pealv1.ListUsersRequest{})
		if err != nil {
			t.Fatal(err)
		}

		var connected []string
		for _, user := range users.GetUsers() {
			connected = append(connected, user.GetUserId()+strings.Repeat("*", int(user.GetConnections())))
		}

		if want := []string{"alice**", "bob*"}; !slices.Equal(connected, want) {
			t.Errorf("connected are %q, want %q", connected, want)
		}

		var sameUsers pealv1.ListUsersResponse
		if rest(t, d, http.MethodGet, "/v1/users", "", &sameUsers); !proto.Equal(users, &sameUsers) {
			t.Errorf("REST lists %v, gRPC %v", &sameUsers, users)
		}

		var figures pealv1.StatsResponse

		rest(t, d, http.MethodGet, "/v1/stats", "", &figures)

		total := figures.GetTotal()
		if total.GetConnections() != 4 || total.GetAuthenticatedConnections() != 3 || figures.GetUsers() != 2 || figures.GetPublished() != 5 {
			t.Errorf("figures are %v, want 4 streams, 3 of them of 2 users, and 5 events", &figures)
		}
	})
}

// TestBadInputIsRefusedBothWays has to get the same code and the same field by
// gRPC and by REST.
func TestBadInputIsRefusedBothWays(t *testing.T) {
	d := pealdtest.Start(t)
	control := d.Control(t)

	for name, test := range map[string]struct {
		message *pealv1.BroadcastRequest
		field   string
	}{
		"empty data":        {&pealv1.BroadcastRequest{}, "data"},
		"too much data":     {&pealv1.BroadcastRequest{Data: strings.Repeat("x", 1<<20+1)}, "data"},
		"line feed in type": {&pealv1.BroadcastRequest{Data: "x", Event: "a\nb"}, "event"},
		"CR in type":        {&pealv1.BroadcastRequest{Data: "x", Event: "a\rb"}, "event"},
		"NUL in type":       {&pealv1.BroadcastRequest{Data: "x", Event: "a\x00b"}, "event"},
		"reserved type":     {&pealv1.BroadcastRequest{Data: "x", Event: "peald.reset"}, "event"},
		"too long a type":   {&pealv1.BroadcastRequest{Data: "x", Event: strings.Repeat("x", 256)}, "event"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := control.Broadcast(t.Context(), test.message)
			if s := status.Convert(err); s.Code() != codes.InvalidArgument || !strings.Contains(s.Message(), test.field) {
				t.Errorf("gRPC answers %v, want InvalidArgument and the field %s", err, test.field)
			}

			body, err := protojson.Marshal(test.message)
			if err != nil {
				t.Fatal(err)
			}

			code, reply := call(t, d, http.MethodPost, "/v1/broadcast", string(body))

			var refusal struct {
				Code    codes.Code `json:"code"`
				Message string     `json:"message"`
			}
			if err := json.Unmarshal(reply, &refusal); err != nil {
				t.Fatalf("%v in %s", err, reply)
			}

			if code != http.StatusBadRequest || refusal.Code != codes.InvalidArgument || !strings.Contains(refusal.Message, test.field) {
				t.Errorf("REST answers %d %s, want 400, InvalidArgument and the field %s", code, reply, test.field)
			}
		})
	}
}

// rest calls the REST listener, which has to answer 200 and reply.
func rest(t *testing.T, d *pealdtest.Daemon, method, path, body string, reply proto.Message) {
	t.Helper()

	code, answer := call(t, d, method, path, body)
	if code != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, code, answer)
	}

	if err := protojson.Unmarshal(answer, reply); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, answer)
	}
}

func call(t *testing.T, d *pealdtest.Daemon, method, path, body string) (int, []byte) {
	t.Helper()

	request, err := http.NewRequestWithContext(t.Context(), method, d.URL(path), bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}

	request.Header.Set("Content-Type", "application/json")

	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}

	defer response.Body.Close()

	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}

	return response.StatusCode, answer
}
