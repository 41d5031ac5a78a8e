package main_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

// ListMessages returns pages of two messages.
func (d *daemon) ListMessages(_ context.Context, r *pealv1.ListMessagesRequest) (*pealv1.ListMessagesResponse, error) {
	d.reads = append(d.reads, proto.CloneOf(r))
	page := &pealv1.ListMessagesResponse{Position: "k3f9-42"}
	first := len(r.GetPageToken()) * 2
	for i := range min(int(r.GetPageSize()), 2) {
		page.Messages = append(page.Messages, &pealv1.Message{
			Final: d.ending, ExpireTimeValue: d.expiry,
			Id: fmt.Sprintf("k3f9-%d", first+i), Event: "topic", Data: fmt.Sprintf("line %d\nescape \x1b", first+i), Time: timestamppb.New(time.Unix(0, 0)),
		})
	}
	if len(r.GetPageToken()) < 2 {
		page.NextPageToken = r.GetPageToken() + "+"
	}
	return page, nil
}

func TestHistory(t *testing.T) {
	d := startDaemon(t)
	r := d.pealctl(t, []string{"history", "--topic", "orders.7"})
	if r.status != 0 || strings.Count(r.stdout, "\n") != 7 || r.stderr != "" {
		t.Errorf("want a header and six rows:\n%s%s", r.stdout, r.stderr)
	}
	at := time.Unix(0, 0).Format(time.DateTime)
	for _, want := range []string{"ID      TIME                 EVENT  DATA\n", "k3f9-0  " + at + `  topic  line 0\nescape \x1b` + "\n", "k3f9-5  "} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("output has no %q:\n%s", want, r.stdout)
		}
	}
	if got := d.reads[1]; got.GetTopic() != "orders.7" || got.GetPageToken() != "+" || got.GetPageSize() != 98 || got.GetOrder() != "" {
		t.Errorf("second request is %v", got)
	}

	d.reads = nil
	r = d.pealctl(t, []string{"history", "--user", "alice", "--newest", "-n", "3", "--after", "k3f9-7", "--retained"})
	if strings.Count(r.stdout, "\n") != 4 || !strings.Contains(r.stderr, "-n 0") || !strings.Contains(r.stderr, "--page-token \"++\".") {
		t.Errorf("want a header and three rows:\n%s%s", r.stdout, r.stderr)
	}
	want := &pealv1.ListMessagesRequest{
		Audience: &pealv1.ListMessagesRequest_UserId{UserId: "alice"}, Order: "newest", AfterId: "k3f9-7", PageSize: 1, PageToken: "+", Retained: true,
	}
	if len(d.reads) != 2 || !proto.Equal(d.reads[1], want) {
		t.Errorf("requests are %v, want %v at the end", d.reads, want)
	}

	d.reads = nil
	r = d.pealctl(t, []string{"history", "--broadcast", "-n", "0", "--output", "json"})
	var reply pealv1.ListMessagesResponse
	if err := protojson.Unmarshal([]byte(r.stdout), &reply); err != nil || len(reply.GetMessages()) != 6 || reply.GetPosition() != "k3f9-42" || r.stderr != "" {
		t.Errorf("%v: %s%s", err, r.stdout, r.stderr)
	}
	if got := d.reads[2]; !got.GetEveryone() || got.GetPageSize() != 1000 {
		t.Errorf("last request is %v", got)
	}
}

func TestHistoryShowsEndsAndExpiry(t *testing.T) {
	d := startDaemon(t)
	d.ending, d.expiry = true, &pealv1.Message_ExpireTime{ExpireTime: timestamppb.New(time.Unix(60, 0))}
	r := d.pealctl(t, []string{"history", "--topic", "a", "-n", "1"})
	at, expires := time.Unix(0, 0).Format(time.DateTime), time.Unix(60, 0).Format(time.DateTime)
	want := "ID      TIME                 EXPIRES              FINAL  EVENT  DATA\nk3f9-0  " + at + "  " + expires + `  true   topic  line 0\nescape \x1b` + "\n"
	if r.stdout != want {
		t.Errorf("%s%s; want %s", r.stdout, r.stderr, want)
	}

	d.reads = nil
	r = d.pealctl(t, []string{"history", "--topic", "a", "--page-token", "+"})
	if len(d.reads) != 2 || d.reads[0].GetPageToken() != "+" || strings.Count(r.stdout, "\n") != 5 {
		t.Errorf("requests %v:\n%s%s", d.reads, r.stdout, r.stderr)
	}
}

func TestHistoryOfNoAudience(t *testing.T) {
	d := startDaemon(t)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"none":       {nil, "[topic user broadcast]"},
		"two":        {[]string{"--topic", "a", "--user", "b"}, "[topic user]"},
		"negative":   {[]string{"--topic", "a", "-n", "-1"}, "--count: invalid number -1"},
		"false":      {[]string{"--broadcast=false"}, "--broadcast is false"},
		"not UTF-8":  {[]string{"--topic", "\xff"}, "--topic is not valid UTF-8"},
		"an operand": {[]string{"orders.7"}, `unexpected argument "orders.7"`},
	} {
		t.Run(name, func(t *testing.T) {
			r := d.pealctl(t, append([]string{"history"}, c.args...))
			if r.status == 0 || !strings.Contains(r.stderr, c.want) || r.stdout != "" {
				t.Errorf("status %d: %s%s; want an error with %q", r.status, r.stdout, r.stderr, c.want)
			}
		})
	}
	d.fail = status.Error(codes.OutOfRange, "messages after x have left the history")
	d.pealctl(t, []string{"history", "--topic", "a"}).wantError(t, "OUT_OF_RANGE", "have left")
}

func TestHistoryOfDaemon(t *testing.T) {
	d := pealdtest.Start(t)
	at := func(args ...string) []string { return append([]string{"--addr", d.GRPC}, args...) }
	for _, data := range []string{"1", "2", "3"} {
		if r := pealctl(t, at("publish", "orders.7", data)); r.status != 0 {
			t.Fatal(r.stderr)
		}
	}
	r := pealctl(t, at("history", "--topic", "orders.7", "--newest", "-n", "2"))
	if lines := strings.Split(strings.TrimSpace(r.stdout), "\n"); len(lines) != 3 || !strings.HasSuffix(lines[1], "topic  3") || !strings.HasSuffix(lines[2], "topic  2") {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
	pealctl(t, at("history", "--topic", "orders.7", "--after", "x1-7")).wantError(t, "unknown position (OUT_OF_RANGE)", `"x1-7"`)
	pealctl(t, at("history", "--topic", "orders.*")).wantError(t, "INVALID_ARGUMENT", "pattern")
}
