package main_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func twoPages() []*pealv1.ListUsersResponse {
	since := timestamppb.New(time.Now().Add(-time.Minute))
	return []*pealv1.ListUsersResponse{
		{Users: []*pealv1.User{{UserId: "alice", Connections: 2, ConnectedSince: since}}, NextPageToken: "after-alice"},
		{Users: []*pealv1.User{{UserId: "bob", Connections: 1, ConnectedSince: since}}},
	}
}

func TestUsers(t *testing.T) {
	d := startDaemon(t)
	d.pages = twoPages()

	r := d.pealctl(t, []string{"users", "--prefix", "a", "--page-size", "1"})
	if !strings.Contains(r.stdout, "alice") || strings.Contains(r.stdout, "bob") {
		t.Errorf("want the first page alone:\n%s", r.stdout)
	}
	if !strings.Contains(r.stderr, `--page-token "after-alice"`) {
		t.Errorf("stderr doesn't name the next page: %q", r.stderr)
	}
	if got := d.lists[0]; got.GetPrefix() != "a" || got.GetPageSize() != 1 {
		t.Errorf("request is %v", got)
	}

	r = d.pealctl(t, []string{"users", "--page-token", "after-alice"})
	if strings.Contains(r.stdout, "alice") || !strings.Contains(r.stdout, "bob") || r.stderr != "" {
		t.Errorf("want the second page alone:\n%s%s", r.stdout, r.stderr)
	}
}

func TestAllUsersInOneReply(t *testing.T) {
	d := startDaemon(t)
	d.pages = twoPages()
	r := d.pealctl(t, []string{"users", "--all", "--output", "json"})

	var reply pealv1.ListUsersResponse
	if err := protojson.Unmarshal([]byte(r.stdout), &reply); err != nil {
		t.Fatalf("%q: %v", r.stdout, err)
	}
	if users := reply.GetUsers(); len(users) != 2 || users[0].GetUserId() != "alice" || users[1].GetUserId() != "bob" || reply.GetNextPageToken() != "" {
		t.Errorf("want both users and no further page: %s", r.stdout)
	}

	r = d.pealctl(t, []string{"users", "--all"})
	if strings.Count(r.stdout, "\n") != 3 || r.stderr != "" {
		t.Errorf("want a header and two rows:\n%s%s", r.stdout, r.stderr)
	}
}
