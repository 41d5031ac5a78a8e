package main_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func TestBroadcast(t *testing.T) {
	d := startDaemon(t)
	d.pealctl(t, []string{"broadcast", "--event", "news", "hello"}).want(t, "ID         RECIPIENTS\nk3f9-1042        5000\n")
	d.pealctl(t, []string{"broadcast", "-"}, withStdin("two\nlines\n")).want(t, "ID         RECIPIENTS\nk3f9-1042        5000\n")

	want := []*pealv1.BroadcastRequest{{Data: "hello", Event: "news"}, {Data: "two\nlines\n"}}
	if len(d.broadcast) != len(want) {
		t.Fatalf("%d broadcasts, want %d", len(d.broadcast), len(want))
	}
	for i := range want {
		if !proto.Equal(d.broadcast[i], want[i]) {
			t.Errorf("request %d is %v, want %v", i, d.broadcast[i], want[i])
		}
	}
}

func TestSend(t *testing.T) {
	d := startDaemon(t)
	d.pealctl(t, []string{"send", "alice", "hi", "--output", "json"}).want(t, "{\n  \"id\": \"k3f9-1043\",\n  \"recipients\": 2\n}\n")
	if want := (&pealv1.SendToUserRequest{UserId: "alice", Data: "hi"}); !proto.Equal(d.sent[0], want) {
		t.Errorf("request is %v, want %v", d.sent[0], want)
	}
}

func TestPublish(t *testing.T) {
	d := startDaemon(t)
	d.pealctl(t, []string{"publish", "orders.new", "seven"}).want(t, "ID         RECIPIENTS\nk3f9-1044           7\n")
	d.pealctl(t, []string{"publish", "orders.new", "-", "--event", "order"}, withStdin("eight")).want(t, "ID         RECIPIENTS\nk3f9-1044           7\n")
	for i, want := range []*pealv1.PublishRequest{{Topic: "orders.new", Data: "seven"}, {Topic: "orders.new", Data: "eight", Event: "order"}} {
		if !proto.Equal(d.published[i], want) {
			t.Errorf("request %d is %v, want %v", i, d.published[i], want)
		}
	}
}

func TestMessageOptions(t *testing.T) {
	d := startDaemon(t)
	flags := []string{"--idempotency-key", "i", "--conflate-key", "c", "--ttl", "90s", "--event", "e"}

	for _, args := range [][]string{{"broadcast", "x"}, {"send", "alice", "x"}, {"publish", "orders", "x"}} {
		if r := d.pealctl(t, append(args, flags...)); r.status != 0 {
			t.Fatal(r.stderr)
		}
	}

	for _, got := range []interface {
		GetData() string
		GetEvent() string
		GetIdempotencyKey() string
		GetConflateKey() string
		GetTtl() *durationpb.Duration
	}{d.broadcast[0], d.sent[0], d.published[0]} {
		if got.GetData() != "x" || got.GetEvent() != "e" || got.GetIdempotencyKey() != "i" || got.GetConflateKey() != "c" || got.GetTtl().AsDuration() != 90*time.Second {
			t.Errorf("request is %v", got)
		}
	}

	d.pealctl(t, []string{"broadcast", "x", "--ttl", "soon"}).wantUsage(t, "--ttl", "soon", "30s")
	d.set(func() { d.fail = status.Error(codes.AlreadyExists, "idempotency_key was used for another message") })
	d.pealctl(t, append([]string{"broadcast", "y"}, flags...)).wantError(t, "ALREADY_EXISTS", "another message", "idempotency_key")
}

func TestTopics(t *testing.T) {
	d := startDaemon(t)
	r := d.pealctl(t, []string{"topics", "--prefix", "eu."})
	if r.stdout != "TOPIC    SUBSCRIBERS\neu.news           12\n" || !strings.Contains(r.stderr, `--page-token "more"`) {
		t.Errorf("stdout %q, stderr %q", r.stdout, r.stderr)
	}
	d.pealctl(t, []string{"topics", "--all"}).want(t, "TOPIC     SUBSCRIBERS\nnews               12\norders.*            1\n")
	r = d.pealctl(t, []string{"topics", "--all", "--output", "json"})
	var listed pealv1.ListTopicsResponse
	if err := protojson.Unmarshal([]byte(r.stdout), &listed); err != nil || len(listed.GetTopics()) != 2 || listed.GetNextPageToken() != "" {
		t.Errorf("%v: %s%s", err, r.stdout, r.stderr)
	}
}

func TestExplainTopic(t *testing.T) {
	d := startDaemon(t)
	for topic, want := range map[string]string{
		"prices.eur": "TOPIC       POLICY  PATTERN   MAX EVENTS  MAX AGE  SLOW CONSUMER  ANONYMOUS  RETAIN\n" +
			"prices.eur  2 of 3  prices.>  1           1h0m0s   conflate       true       true\n",
		"audit": "TOPIC  POLICY  PATTERN  MAX EVENTS  MAX AGE  SLOW CONSUMER  ANONYMOUS  RETAIN\n" +
			"audit  3 of 3  audit    default     0s       default        default    default\n",
		"news": "TOPIC  POLICY     PATTERN  MAX EVENTS  MAX AGE  SLOW CONSUMER  ANONYMOUS  RETAIN\n" +
			"news   none of 3  -        default     default  default        default    default\n",
	} {
		d.pealctl(t, []string{"topics", "explain", topic}).want(t, want)
	}
	d.pealctl(t, []string{"topics", "explain", "news", "--output", "json"}).want(t, "{\n  \"policies\": 3\n}\n")
	d.pealctl(t, []string{"topics", "explain", "\xff"}).wantError(t, "TOPIC is not valid UTF-8")
}

func TestPosition(t *testing.T) {
	d := startDaemon(t)
	d.pealctl(t, []string{"position"}).want(t, "ID\nk3f9-42\n")
	d.pealctl(t, []string{"position", "--output", "json"}).want(t, "{\n  \"id\": \"k3f9-42\"\n}\n")
}

func TestDisconnect(t *testing.T) {
	d := startDaemon(t)
	d.pealctl(t, []string{"disconnect", "alice"}).want(t, "USER   STREAMS CLOSED\nalice               3\n")
	d.pealctl(t, []string{"disconnect", "alice", "--for", "1h", "--output", "json"}).want(t, "{\n  \"connections\": 3,\n  \"missingNodes\": []\n}\n")
	if d.closed[0].GetFor() != nil || d.closed[1].GetUserId() != "alice" || d.closed[1].GetFor().AsDuration() != time.Hour {
		t.Errorf("requests are %v", d.closed)
	}
}

func TestToken(t *testing.T) {
	d := startDaemon(t)
	d.pealctl(t, []string{"token", "--user", "alice"}).want(t, "header.claims.signature\n")
	d.pealctl(t, []string{"token", "--user", "alice", "--ttl", "5m"}).want(t, "header.claims.signature\n")

	if d.tokens[0].GetTtl() != nil {
		t.Errorf("ttl is %v, want the daemon's default", d.tokens[0].GetTtl())
	}
	if got := d.tokens[1].GetTtl().AsDuration(); got != 5*time.Minute {
		t.Errorf("ttl is %v, want 5m", got)
	}

	d.pealctl(t, []string{"token", "--user", "alice", "--topics", "news, orders.*", "--topics", "a>"}).want(t, "header.claims.signature\n")
	if got := d.tokens[2].GetTopics(); !slices.Equal(got, []string{"news", "orders.*", "a>"}) {
		t.Errorf("topics are %q", got)
	}

	r := d.pealctl(t, []string{"token", "--user", "alice", "--output", "json"})
	var reply struct{ Token, ExpiresAt string }
	if err := json.Unmarshal([]byte(r.stdout), &reply); err != nil || reply.Token == "" || reply.ExpiresAt == "" {
		t.Errorf("%q is not a JSON reply: %v", r.stdout, err)
	}
}

func TestInvalidUTF8IsNamed(t *testing.T) {
	d := startDaemon(t)
	d.pealctl(t, []string{"broadcast", "\xff"}).wantError(t, "DATA is not valid UTF-8")
	d.pealctl(t, []string{"broadcast", "-"}, withStdin("\xff")).wantError(t, "standard input is not valid UTF-8")
	d.pealctl(t, []string{"broadcast", "-"}, withStdin(strings.Repeat("x", 5<<20))).wantError(t, "standard input: longer than")
	d.pealctl(t, []string{"send", "\xff", "x"}).wantError(t, "USER is not valid UTF-8")
	d.pealctl(t, []string{"token", "--user", "\xff"}).wantError(t, "--user is not valid UTF-8")
	d.pealctl(t, []string{"publish", "\xff", "x"}).wantError(t, "TOPIC is not valid UTF-8")
	d.pealctl(t, []string{"publish", "x", "x", "--event", "\xff"}).wantError(t, "--event is not valid UTF-8")
	d.pealctl(t, []string{"publish", "x", "x", "--conflate-key", "\xff"}).wantError(t, "--conflate-key is not valid UTF-8")
	d.pealctl(t, []string{"broadcast", "x", "--idempotency-key", "\xff"}).wantError(t, "--idempotency-key is not valid UTF-8")
	d.pealctl(t, []string{"disconnect", "\xff"}).wantError(t, "USER is not valid UTF-8")
	d.pealctl(t, []string{"topics", "--prefix", "\xff"}).wantError(t, "--prefix is not valid UTF-8")
	d.pealctl(t, []string{"token", "--user", "alice", "--topics", "a,\xff"}).wantError(t, "--topics is not valid UTF-8")
	d.pealctl(t, []string{"users", "--prefix", "\xff"}).wantError(t, "--prefix is not valid UTF-8")
}
