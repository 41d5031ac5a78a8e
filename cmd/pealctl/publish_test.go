package main_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func TestBroadcast(t *testing.T) {
	d := startDaemon(t)
	d.pealctl(t, []string{"broadcast", "--event", "news", "hello"}).want(t, "ID         RECIPIENTS\nk3f9-1042        5000\n")
	d.pealctl(t, []string{"broadcast", "-"}, withStdin("two\nlines\n")).want(t, "ID         RECIPIENTS\nk3f9-1042        5000\n")

	want := []*pealv1.BroadcastRequest{{Data: "hello", Event: "news"}, {Data: "two\nlines\n"}}
	if len(d.broadcast) != len(want) {
		t.Fatalf("%d broadcasts, wanted %d", len(d.broadcast), len(want))
	}
	for i := range want {
		if !proto.Equal(d.broadcast[i], want[i]) {
			t.Errorf("request %d is %v, wanted %v", i, d.broadcast[i], want[i])
		}
	}
}

func TestSend(t *testing.T) {
	d := startDaemon(t)
	d.pealctl(t, []string{"send", "alice", "hi", "--output", "json"}).want(t, "{\n  \"id\": \"k3f9-1043\",\n  \"recipients\": 2\n}\n")
	if want := (&pealv1.SendToUserRequest{UserId: "alice", Data: "hi"}); !proto.Equal(d.sent[0], want) {
		t.Errorf("request is %v, wanted %v", d.sent[0], want)
	}
}

func TestToken(t *testing.T) {
	d := startDaemon(t)
	d.pealctl(t, []string{"token", "--user", "alice"}).want(t, "header.claims.signature\n")
	d.pealctl(t, []string{"token", "--user", "alice", "--ttl", "5m"}).want(t, "header.claims.signature\n")
	if d.tokens[0].GetTtl() != nil {
		t.Errorf("ttl is %v, wanted the daemon's default", d.tokens[0].GetTtl())
	}
	if got := d.tokens[1].GetTtl().AsDuration(); got != 5*time.Minute {
		t.Errorf("ttl is %v, wanted 5m", got)
	}

	r := d.pealctl(t, []string{"token", "--user", "alice", "--output", "json"})
	var reply struct{ Token, ExpiresAt string }
	if err := json.Unmarshal([]byte(r.stdout), &reply); err != nil || reply.Token == "" || reply.ExpiresAt == "" {
		t.Errorf("%q is not the reply in JSON: %v", r.stdout, err)
	}
}

func TestWhatProtobufWouldRefuseIsRefusedByName(t *testing.T) {
	d := startDaemon(t)
	d.pealctl(t, []string{"broadcast", "\xff"}).wantError(t, "DATA is not valid UTF-8")
	d.pealctl(t, []string{"broadcast", "-"}, withStdin("\xff")).wantError(t, "the standard input is not valid UTF-8")
	d.pealctl(t, []string{"broadcast", "-"}, withStdin(strings.Repeat("x", 5<<20))).wantError(t, "standard input holds more than")
	d.pealctl(t, []string{"send", "\xff", "x"}).wantError(t, "USER is not valid UTF-8")
	d.pealctl(t, []string{"token", "--user", "\xff"}).wantError(t, "--user is not valid UTF-8")
	d.pealctl(t, []string{"users", "--prefix", "\xff"}).wantError(t, "--prefix is not valid UTF-8")
}
