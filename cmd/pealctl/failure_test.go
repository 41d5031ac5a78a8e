package main_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestFailuresSayTheirCodeAndItsMeaning(t *testing.T) {
	d := startDaemon(t)
	for _, c := range []struct {
		err  error
		says []string
	}{
		{violation(t, "data", "event"), []string{"INVALID_ARGUMENT", "data: is not to the daemon's taste; event: is not"}},
		{status.Error(codes.Unauthenticated, "no token"), []string{"UNAUTHENTICATED", "--token", "PEALCTL_TOKEN"}},
		{status.Error(codes.PermissionDenied, "needs the scope publish"), []string{"PERMISSION_DENIED", "needs the scope publish"}},
		{status.Error(codes.FailedPrecondition, "auth.jwt.hmac_secret is not set"), []string{"FAILED_PRECONDITION", "isn't configured", "auth.jwt.hmac_secret"}},
		{status.Error(codes.Unavailable, "stopping"), []string{"UNAVAILABLE", d.addr, "stopping"}},
		{status.Error(codes.Unimplemented, "what?"), []string{"UNIMPLEMENTED", "older"}},
		{status.Error(codes.Internal, "several\nlines"), []string{"INTERNAL", "several lines"}},
	} {
		d.set(func() { d.fail = c.err })
		d.pealctl(t, []string{"broadcast", "x"}).wantError(t, c.says...)
	}
}

func TestNobodyListens(t *testing.T) {
	pealctl(t, []string{"--addr", "127.0.0.1:1", "users"}).wantError(t, "UNAVAILABLE", "127.0.0.1:1", "refused")
}

func TestBadUsage(t *testing.T) {
	for _, c := range []struct{ args, says []string }{
		{[]string{"shout"}, []string{"unknown command", "shout"}},
		{[]string{"broadcast"}, []string{"accepts 1 arg"}},
		{[]string{"send", "alice"}, []string{"accepts 2 arg"}},
		{[]string{"token"}, []string{"user"}},
		{[]string{"--output", "xml", "users"}, []string{"--output", "xml", "table, json"}},
		{[]string{"users", "--timeout", "soon"}, []string{"--timeout", "soon"}},
		{[]string{"users", "--ca-file", "/nonexistent"}, []string{"--ca-file", "/nonexistent"}},
		{[]string{"users", "--cert-file", "x.pem"}, []string{"--cert-file", "--key-file"}},
		{[]string{"stats", "5s"}, []string{"--watch", "5s"}},
		{[]string{"stats", "--watch", "often"}, []string{"--watch", "often"}},
	} {
		pealctl(t, c.args).wantError(t, c.says...)
	}
}
