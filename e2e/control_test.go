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

// TestGRPCAndREST publishes through gRPC and through REST and reads the events
// from streams.
func TestGRPCAndREST(t *testing.T) {
	pealdtest.OnEachEngine(t, testGRPCAndREST)
}

func testGRPCAndREST(t *testing.T, engine func(*daemon.Config)) {
	t.Helper()

	d := pealdtest.Start(t, engine)
	control := d.Control(t)

	streams := map[string][]func(int) ([]frame, error){}
	for _, user := range []string{"alice", "alice", "bob", ""} {
		streams[user] = append(streams[user], inGoSSE(t, d.Events(t, user)))
	}

	d.WaitForStreams(t, 4)

	checkRecipients := func(recipients, want int32) {
		t.Helper()

		if recipients != want {
			t.Errorf("an event was queued to %d streams, want %d", recipients, want)
		}
	}

	var everyone pealv1.BroadcastResponse

	rest(t, d, http.MethodPost, "/v1/broadcast", `{"data": "one\ntwo"}`, &everyone)
	checkRecipients(everyone.GetRecipients(), 4)

	toAlice, err := control.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Data: "hi"})
	if err != nil {
		t.Fatal(err)
	}

	checkRecipients(toAlice.GetRecipients(), 2)

	var toBob pealv1.SendToUserResponse

	rest(t, d, http.MethodPost, "/v1/users/bob/messages", `{"data": "hi", "event": "greeting"}`, &toBob)
	checkRecipients(toBob.GetRecipients(), 1)

	toCarol, err := control.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "carol", Data: "hi"})
	if err != nil {
		t.Fatal(err)
	}

	checkRecipients(toCarol.GetRecipients(), 0)

	last, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "end"})
	if err != nil {
		t.Fatal(err)
	}

	first, end := frame{"broadcast", "one\ntwo", everyone.GetId()}, frame{"broadcast", "end", last.GetId()}
	for user, want := range map[string][]frame{
		"alice": {first, {"individual", "hi", toAlice.GetId()}, end},
		"bob":   {first, {"greeting", "hi", toBob.GetId()}, end},
		"":      {first, end},
	} {
		for _, stream := range streams[user] {
			if got, err := stream(len(want)); err != nil || !slices.Equal(got, want) {
				t.Errorf("a stream for %q received %v, %v, want %v", user, got, err, want)
			}
		}
	}

	t.Run("users and stats", func(t *testing.T) {
		users, err := control.ListUsers(t.Context(), &pealv1.ListUsersRequest{})
		if err != nil {
			t.Fatal(err)
		}

		var connected []string
		for _, user := range users.GetUsers() {
			connected = append(connected, user.GetUserId()+strings.Repeat("*", int(user.GetConnections())))
		}

		if want := []string{"alice**", "bob*"}; !slices.Equal(connected, want) {
			t.Errorf("connected users are %q, want %q", connected, want)
		}

		var sameUsers pealv1.ListUsersResponse
		if rest(t, d, http.MethodGet, "/v1/users", "", &sameUsers); !proto.Equal(users, &sameUsers) {
			t.Errorf("REST lists users %v, gRPC %v", &sameUsers, users)
		}

		var stats pealv1.StatsResponse

		rest(t, d, http.MethodGet, "/v1/stats", "", &stats)

		total := stats.GetTotal()
		if total.GetConnections() != 4 || total.GetAuthenticatedConnections() != 3 || stats.GetUsers() != 2 || stats.GetPublished() != 5 {
			t.Errorf("stats are %v, want 4 streams, 3 of them authenticated, 2 users and 5 published events", &stats)
		}
	})
}

// TestInvalidInput checks that gRPC and REST reject invalid messages with the
// same code and name the same field.
func TestInvalidInput(t *testing.T) {
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
		"long type":         {&pealv1.BroadcastRequest{Data: "x", Event: strings.Repeat("x", 256)}, "event"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := control.Broadcast(t.Context(), test.message)
			if s := status.Convert(err); s.Code() != codes.InvalidArgument || !strings.Contains(s.Message(), test.field) {
				t.Errorf("gRPC returns %v, want InvalidArgument and the field %s", err, test.field)
			}

			body, err := protojson.Marshal(test.message)
			if err != nil {
				t.Fatal(err)
			}

			code, reply := call(t, d, http.MethodPost, "/v1/broadcast", string(body))

			var rejection struct {
				Code    codes.Code `json:"code"`
				Message string     `json:"message"`
			}
			if err := json.Unmarshal(reply, &rejection); err != nil {
				t.Fatalf("%v in %s", err, reply)
			}

			if code != http.StatusBadRequest || rejection.Code != codes.InvalidArgument || !strings.Contains(rejection.Message, test.field) {
				t.Errorf("REST returns %d %s, want 400, InvalidArgument and the field %s", code, reply, test.field)
			}
		})
	}
}

// rest makes a REST call, which must return 200, and decodes the reply.
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
