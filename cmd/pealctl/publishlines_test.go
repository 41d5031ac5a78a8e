package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

func TestPublishToSeveralTopics(t *testing.T) {
	d := startDaemon(t)
	const reply = "ID         RECIPIENTS\nk3f9-1044           7\n"
	d.pealctl(t, []string{"publish", "--topic", "a", "--topic", "b", "x", "--exclude-user", "alice"}).want(t, reply)
	d.pealctl(t, []string{"publish", "a", "x", "--topic", "b"}).want(t, reply)
	d.pealctl(t, []string{"publish", "--topic", "a", "-"}, withStdin("x")).want(t, reply)
	for i, want := range []*pealv1.PublishRequest{
		{Topic: "a", Topics: []string{"b"}, Data: "x", ExcludeUserId: "alice"}, {Topic: "a", Topics: []string{"b"}, Data: "x"}, {Topic: "a", Data: "x"},
	} {
		if !proto.Equal(d.published[i], want) {
			t.Errorf("request %d is %v, want %v", i, d.published[i], want)
		}
	}
	d.pealctl(t, []string{"broadcast", "x", "--exclude-user", "bob"}).want(t, "ID         RECIPIENTS\nk3f9-1042        5000\n")
	if got := d.broadcast[0].GetExcludeUserId(); got != "bob" {
		t.Errorf("the excluded user is %q", got)
	}

	for _, c := range []struct{ args, message string }{
		{"publish a", "missing DATA"},
		{"publish --topic a", "missing DATA"},
		{"publish --topic a b c d", "unexpected argument \"d\""},
		{"publish --batch - a", "unexpected argument \"a\""},
		{"publish --batch - --event e", "--event can't be combined with --batch"},
		{"publish --batch - --topic a", "--topic can't be combined with --batch"},
		{"publish --batch= ", "empty file name"},
		{"publish a x --exclude-user=", "empty user"},
	} {
		d.pealctl(t, strings.Fields(c.args)).wantUsage(t, c.message)
	}
	d.pealctl(t, []string{"publish", "", "x", "--topic", "b"}).wantError(t, "TOPIC is empty; want a topic")
	d.pealctl(t, []string{"publish", "--topic", "", "--topic", "b", "x"}).wantError(t, "--topic is empty; want a topic")
	d.pealctl(t, []string{"publish", "--topic", "a\xff", "x"}).wantError(t, "--topic is not valid UTF-8")
	d.pealctl(t, []string{"publish", "a", "x", "--exclude-user", "\xff"}).wantError(t, "--exclude-user is not valid UTF-8")
}

// TestPublishLines publishes from a file and from standard input to a real daemon.
func TestPublishLines(t *testing.T) {
	d := pealdtest.Start(t)
	const valid = `{"topics":["a","b"],"data":"1"}` + "\n\r\n" +
		`{"everyone":true,"data":"3","excludeUserId":"alice"}` + "\r\n" + `{"user_id":"bob","data":"4","idempotency_key":"k"}`
	file := filepath.Join(t.TempDir(), "messages.jsonl")
	if err := os.WriteFile(file, []byte(valid), 0o600); err != nil {
		t.Fatal(err)
	}
	const all = "PUBLISHED  FAILED  UNKNOWN\n        3       0        0\n"
	pealctl(t, []string{"--addr", d.GRPC, "publish", "--batch", file}).want(t, all)
	pealctl(t, []string{"--addr", d.GRPC, "publish", "--batch", "-"}, withStdin(valid+"\n")).want(t, all)
	pealctl(t, []string{"--addr", d.GRPC, "publish", "--batch", "-"}, withStdin("\ufeff"+valid)).want(t, all)
	pealctl(t, []string{"--addr", d.GRPC, "publish", "--batch", "-"}).want(t, "PUBLISHED  FAILED  UNKNOWN\n        0       0        0\n")

	invalid := strings.Join([]string{
		`{"topic":"a","data":"1"}`, `{"topic":"a","data":""}`, `{"topic":"a","dta":"3"}`, `not JSON`, ``,
		`{"topic":"a.*","data":"6"}`, `{"topic":"a","data":"` + strings.Repeat("x", 5<<20) + `"}`, `{"data":"8"}`, `{"topic":"a","data":"9"}`,
	}, "\n")
	r := pealctl(t, []string{"--addr", d.GRPC, "publish", "--batch", "-", "--output", "json"}, withStdin(invalid))
	want := []string{
		"pealctl: line 2: data is empty; want 1 to 1048576 bytes",
		`pealctl: line 3: invalid message: unknown field "dta" (column 14)`,
		"pealctl: line 4: invalid message: not JSON",
		`pealctl: line 6: topic is the pattern "a.*"; want a topic without wildcards`,
		"pealctl: line 7: longer than 4194304 bytes, the limit for a message",
		"pealctl: line 8: audience is missing; set everyone, user_id, topic or topics",
		"pealctl: 6 of 8 messages were rejected",
	}
	if got := strings.Split(strings.TrimSpace(r.stderr), "\n"); r.status != 1 || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("status %d, stderr\n%s\nwant\n%s", r.status, r.stderr, strings.Join(want, "\n"))
	}
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	var results []string
	for _, line := range lines {
		var result struct {
			Line       int
			ID, Error  string
			Recipients *int
		}
		if err := json.Unmarshal([]byte(line), &result); err != nil || (result.Error == "") != (result.ID != "" && result.Recipients != nil) {
			t.Errorf("%v: %s", err, line)
		}
		results = append(results, fmt.Sprint(result.Line, result.Error != ""))
	}
	if got := strings.Join(results, " "); got != "1 false 2 true 3 true 4 true 6 true 7 true 8 true 9 false" {
		t.Errorf("results %s", got)
	}

	pealctl(t, []string{"--addr", d.GRPC, "publish", "--batch", filepath.Join(t.TempDir(), "missing")}).wantError(t, "--batch: open", "no such file")
	pealctl(t, []string{"--addr", "127.0.0.1:1", "publish", "--batch", file}).wantStatusOf(t, 1, "UNAVAILABLE")
}

// wantStatusOf is wantStatus for a run that may print a table.
func (r result) wantStatusOf(t *testing.T, status int, part string) {
	t.Helper()
	if r.status != status || !strings.Contains(r.stderr, part) {
		t.Errorf("status %d, stderr %q; want status %d and %q", r.status, r.stderr, status, part)
	}
}

// partialDaemon acknowledges only the first messages.
type partialDaemon struct {
	pealv1.UnimplementedControlServiceServer

	acks  int
	end   error // nil for a daemon that hangs
	early bool  // the call succeeds
}

func (d *partialDaemon) PublishStream(stream grpc.BidiStreamingServer[pealv1.PublishStreamRequest, pealv1.PublishStreamResponse]) error {
	for n := int64(1); n <= 3; n++ {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		if n <= int64(d.acks) {
			if err := stream.Send(&pealv1.PublishStreamResponse{Acks: []*pealv1.PublishAck{{Number: n, Id: "e-1"}}}); err != nil {
				return err
			}
		}
	}
	if d.end == nil && !d.early {
		<-stream.Context().Done()
	}
	return d.end
}

// TestPublishLinesReportsWhatIsUnknown checks which lines are reported if the daemon stops
// or hangs.
func TestPublishLinesReportsWhatIsUnknown(t *testing.T) {
	input := strings.Repeat(`{"everyone":true,"data":"x"}`+"\n", 3)
	for name, c := range map[string]struct {
		daemon  *partialDaemon
		message string
	}{
		"stops": {&partialDaemon{acks: 1, end: status.Error(codes.Unavailable, "stopping")}, "lines 2 to 3 may not have been published: the daemon at"},
		"ends":  {&partialDaemon{acks: 2, early: true}, "line 3 may not have been published: the daemon ended the call without a result"},
		"hangs": {&partialDaemon{acks: 2}, "line 3 may not have been published: no reply from the daemon at"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, c.daemon)
			r := pealctl(t, []string{"--addr", addr, "--timeout", "500ms", "publish", "--batch", "-"}, withStdin(input))
			r.wantStatusOf(t, 1, c.message)
			if want := fmt.Sprintf("PUBLISHED  FAILED  UNKNOWN\n%9d       0  %7d\n", c.daemon.acks, 3-c.daemon.acks); r.stdout != want {
				t.Errorf("stdout %q, want %q", r.stdout, want)
			}
		})
	}
}
