package control_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// members is a cluster in which only node a is running. Node a handles the calls.
type members struct{}

func (members) Remove(_ context.Context, name string) ([]string, error) {
	switch {
	case name == "a":
		return nil, &control.MembershipError{Reason: "a is running"}
	case name == "undecided":
		return nil, &broker.UnavailableError{Reason: "the cluster has no leader"}
	case !strings.HasPrefix(name, "node-") && name != "b":
		return nil, &control.MembershipError{Unknown: true, Reason: name + " is not a member; members are a, b"}
	}
	return []string{"a", "c"}, nil
}

func TestRemoveNode(t *testing.T) {
	p := start(t, control.Config{Membership: members{}}, &fakeBroker{}, nil)
	reply, err := p.RemoveNode(t.Context(), &pealv1.RemoveNodeRequest{Name: "b"})
	if err != nil || !slices.Equal(reply.GetMembers(), []string{"a", "c"}) {
		t.Errorf("%v, %v", reply, err)
	}

	if got := p.do(t, "POST", "/v1/nodes/node-b:remove", ""); got.StatusCode != http.StatusOK || got.body != `{"members":["a","c"]}`+"\n" {
		t.Errorf("REST: %s: %s", got.Status, got.body)
	}

	alone := start(t, control.Config{}, &fakeBroker{}, nil)

	for name, c := range map[string]struct {
		of               *plane
		node             string
		code             codes.Code
		reason, contains string
	}{
		"empty":      {p, "", codes.InvalidArgument, "INVALID_FIELD", "name is 0 bytes long"},
		"long name":  {p, strings.Repeat("x", 301), codes.InvalidArgument, "INVALID_FIELD", "301 bytes"},
		"running":    {p, "a", codes.FailedPrecondition, "NOT_REMOVABLE", "a is running"},
		"unknown":    {p, "z", codes.NotFound, "UNKNOWN_NODE", "members are a, b"},
		"no leader":  {p, "undecided", codes.Unavailable, "LOG_UNAVAILABLE", "no leader"},
		"no cluster": {alone, "b", codes.FailedPrecondition, "NOT_REMOVABLE", "cluster.mode is off"},
	} {
		_, err := c.of.RemoveNode(t.Context(), &pealv1.RemoveNodeRequest{Name: c.node})
		if f := failureOf(t, err); f.code != c.code || f.reason != c.reason || !strings.Contains(f.message, c.contains) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}
