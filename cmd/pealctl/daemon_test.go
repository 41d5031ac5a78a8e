package main_test

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/bench"
	"github.com/peald/peald/internal/pealdtest"
)

// The tests in this file run against a real daemon. The others use fake control
// planes and stream servers.

func TestTailReceivesMessages(t *testing.T) {
	d := pealdtest.Start(t)
	token := strings.TrimSpace(pealctl(t, []string{"--addr", d.GRPC, "token", "--user", "alice"}).stdout)
	w := watch(t, "tail", d.Events(t, ""), "--user-token", token)
	d.WaitForStreams(t, 1)

	if r := pealctl(t, []string{"--addr", d.GRPC, "broadcast", "--event", "news", "to all"}); r.status != 0 {
		t.Fatal(r.stderr)
	}

	w.until(t, "\tnews\tto all")
	if r := pealctl(t, []string{"--addr", d.GRPC, "send", "alice", "to alice"}); r.status != 0 {
		t.Fatal(r.stderr)
	}

	w.until(t, "\tindividual\tto alice")

	r := pealctl(t, []string{"--addr", d.GRPC, "users", "--output", "json"})
	var users pealv1.ListUsersResponse
	if err := protojson.Unmarshal([]byte(r.stdout), &users); err != nil || len(users.GetUsers()) != 1 || users.GetUsers()[0].GetUserId() != "alice" {
		t.Errorf("users: %v %s%s", err, r.stdout, r.stderr)
	}

	r = pealctl(t, []string{"--addr", d.GRPC, "stats"})
	if !strings.Contains(r.stdout, "1 streams") || !strings.Contains(r.stdout, "2 events published") {
		t.Errorf("stats:\n%s%s", r.stdout, r.stderr)
	}
}

func TestTopicsAndPresence(t *testing.T) {
	d := pealdtest.Start(t)
	at := func(args ...string) []string { return append([]string{"--addr", d.GRPC}, args...) }
	presence := watch(t, at("watch", "--output", "json")...)
	presence.until(t, `{"snapshotComplete":{"anonymousConnections":0}}`)
	token := strings.TrimSpace(pealctl(t, at("token", "--user", "alice", "--topics", "orders.*")).stdout)
	w := watch(t, "tail", d.Events(t, ""), "--user-token", token, "--topic", "orders.*")
	presence.until(t, `{"opened":{"userId":"alice","connections":1,"time":"`)
	plain := watch(t, at("watch")...)
	plain.until(t, "\tpresent\talice\t1")
	anonymous := watch(t, "tail", d.Events(t, ""))
	plain.until(t, "\topened\t(anonymous)\t1")
	second := watch(t, at("watch")...)
	second.until(t, "\tpresent\t(anonymous)\t1")
	second.stop()
	anonymous.stop()
	plain.until(t, "\tended\t(anonymous)\t0\thung_up")

	ofTopic := watch(t, at("watch", "--topic", "orders.7")...)
	ofTopic.until(t, "\tpresent\talice\t1")
	pealctl(t, at("subscribers", "orders.7")).want(t, "USER   STREAMS\nalice        1\n")
	pealctl(t, at("subscribers", "news")).want(t, "USER  STREAMS\n")

	if r := pealctl(t, at("publish", "orders.7", "paid")); r.status != 0 {
		t.Fatal(r.stderr)
	}

	w.until(t, "\ttopic\tpaid")
	pealctl(t, at("topics")).want(t, "TOPIC     SUBSCRIBERS\norders.*            1\n")
	pealctl(t, []string{"tail", d.Events(t, ""), "--user-token", token, "--topic", "prices"}).wantError(t, "403 Forbidden", `"prices"`)

	if r := pealctl(t, at("disconnect", "alice", "--for", "1h")); r.status != 0 || !strings.Contains(r.stdout, "alice               1") {
		t.Errorf("status %d: %s%s", r.status, r.stdout, r.stderr)
	}

	presence.until(t, `,"reason":"disconnected"}}`)
	plain.until(t, "\tended\talice\t0\tdisconnected")
	ofTopic.until(t, "\tended\talice\t0\tdisconnected")
	ofTopic.stop()

	if code := presence.stop(); code != 0 {
		t.Errorf("an interrupted watch exits with status %d", code)
	}

	pealctl(t, []string{"tail", d.Events(t, ""), "--user-token", token}).wantError(t, "204 No Content")
	d.Stop(t)

	for plain.lines.Scan() {
		t.Log(plain.lines.Text())
	}

	if code := plain.stop(); code != 1 {
		t.Errorf("a watch of a daemon that shuts down exits with status %d", code)
	}
}

func TestInvalidFieldsAreNamed(t *testing.T) {
	d := pealdtest.Start(t)
	pealctl(t, []string{"--addr", d.GRPC, "broadcast", ""}).wantError(t, "INVALID_ARGUMENT): data is empty")
	pealctl(t, []string{"--addr", d.GRPC, "send", "", "x"}).wantError(t, "INVALID_ARGUMENT): user_id is empty")
	pealctl(t, []string{"--addr", d.GRPC, "broadcast", "--event", "a\nb", "x"}).wantError(t, "INVALID_ARGUMENT): event ")
	pealctl(t, []string{"tail", d.Events(t, ""), "--user-token", "nonsense"}).wantError(t, "401 Unauthorized")
}

func TestBenchOptions(t *testing.T) {
	d := pealdtest.Start(t)
	for name, args := range map[string][]string{
		"rate":                           {"--clients", "50", "--rate", "50", "--duration", "200ms"},
		"burst with slow streams":        {"--clients", "30", "--burst", "20", "--slow", "5"},
		"users":                          {"--clients", "30", "--users", "10", "--burst", "50"},
		"net/http":                       {"--clients", "20", "--burst", "10", "--portable"},
		"large messages":                 {"--clients", "2", "--burst", "3", "--size", "1048576"},
		"several source addresses":       {"--clients", "20", "--burst", "10", "--sources", "5"},
		"one stream":                     {"--clients", "1", "--burst", "1"},
		"small messages, opened at once": {"--clients", "100", "--at-once", "100", "--burst", "10", "--size", "48"},
	} {
		t.Run(name, func(t *testing.T) {
			r := pealctl(t, append([]string{"--addr", d.GRPC, "bench", "--url", d.Events(t, ""), "--output", "json", "--patience", "2s"}, args...))
			var result bench.Result
			if err := json.Unmarshal([]byte(r.stdout), &result); err != nil {
				t.Fatalf("%v: %s%s", err, r.stdout, r.stderr)
			}
			if r.status != 0 || result.Delivered != result.Expected || result.Delivered == 0 || result.Faults() != "" {
				t.Errorf("status %d, %+v", r.status, result)
			}
		})
	}
}

func TestUnixSocket(t *testing.T) {
	t.Chdir(t.TempDir())
	d := pealdtest.Start(t, pealdtest.OnSocketFile("peald.sock"))
	for _, addr := range []string{d.GRPC, "unix:peald.sock", "unix://" + strings.TrimPrefix(d.GRPC, "unix:")} {
		if r := pealctl(t, []string{"--addr", addr, "broadcast", "over a socket file"}); r.status != 0 {
			t.Errorf("%s: %s", addr, r.stderr)
		}
	}
	pealctl(t, []string{"--addr", "unix:nothing.sock", "broadcast", "x"}).wantError(t, "UNAVAILABLE")
}
