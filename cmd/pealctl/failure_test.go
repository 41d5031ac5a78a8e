package main_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
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
		{reasoned(t, codes.FailedPrecondition, "NOT_REMOVABLE", "b is there"), []string{"FAILED_PRECONDITION", "not to be removed", "b is there"}},
		{reasoned(t, codes.NotFound, "UNKNOWN_NODE", "members are a, b"), []string{"NOT_FOUND", "no such node", "members are a, b"}},
		{reasoned(t, codes.Unavailable, "LOG_UNAVAILABLE", "no leader"), []string{"UNAVAILABLE", "the cluster can't do that now", "no leader"}},
		{status.Error(codes.Unavailable, "stopping"), []string{"UNAVAILABLE", d.addr, "stopping"}},
		{status.Error(codes.Unimplemented, "what?"), []string{"UNIMPLEMENTED", "older"}},
		{status.Error(codes.Internal, "several\nlines"), []string{"INTERNAL", "several lines"}},
	} {
		d.set(func() { d.fail = c.err })
		d.pealctl(t, []string{"broadcast", "x"}).wantError(t, c.says...)
	}
}

// reasoned is an error as the daemon gives it.
func reasoned(t *testing.T, code codes.Code, reason, message string) error {
	t.Helper()
	st, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{Reason: reason})
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}

func TestNobodyListens(t *testing.T) {
	pealctl(t, []string{"--addr", "127.0.0.1:1", "users"}).wantError(t, "UNAVAILABLE", "127.0.0.1:1", "refused")
}

func TestBadUsage(t *testing.T) {
	for _, c := range []struct{ args, says []string }{
		{[]string{"shout"}, []string{"unknown command", "shout"}},
		{[]string{"broadcast"}, []string{"no DATA", "pealctl broadcast DATA"}},
		{[]string{"send", "alice"}, []string{"no DATA", "pealctl send USER DATA"}},
		{[]string{"send"}, []string{"no USER and DATA"}},
		{[]string{"broadcast", "two", "words"}, []string{`"words"`, "quote"}},
		{[]string{"version", "please"}, []string{`"please"`}},
		{[]string{"tail", "a", "b"}, []string{"one URL"}},
		{[]string{"tail", "localhost:8080"}, []string{"localhost:8080", "http://"}},
		{[]string{"tail", "ftp://localhost/events"}, []string{"ftp://", "http://"}},
		{[]string{"--addr", "localhost", "users"}, []string{"--addr", `"localhost"`, "HOST:PORT"}},
		{[]string{"--addr", "http://localhost:9090", "users"}, []string{"--addr", "without a scheme"}},
		{[]string{"bench", "--users", "2", "--user-token", "x"}, []string{"users", "user-token"}},
		{[]string{"bench", "--chaos", "--burst", "2"}, []string{"chaos", "burst"}},
		{[]string{"bench", "--resume", "2", "--rate", "2"}, []string{"resume", "rate"}},
		{[]string{"broadcast", "x", "--idempotency-key", ""}, []string{"--idempotency-key", "is empty"}},
		{[]string{"broadcast", "x", "--conflate-key", ""}, []string{"--conflate-key", "is empty"}},
		{[]string{"bench", "--plot", "/nonexistent/plot.svg"}, []string{"--plot", "/nonexistent/plot.svg"}},
		{[]string{"token"}, []string{"user"}},
		{[]string{"--output", "xml", "users"}, []string{"--output", "xml", "table, json"}},
		{[]string{"users", "--timeout", "soon"}, []string{"--timeout", "soon"}},
		{[]string{"stats", "5s"}, []string{"--watch", "5s"}},
		{[]string{"stats", "--watch", "often"}, []string{"--watch", "often"}},
	} {
		pealctl(t, c.args).wantUsage(t, c.says...)
	}

	pealctl(t, []string{"users", "--ca-file", "/nonexistent"}).wantError(t, "--ca-file", "/nonexistent")
	pealctl(t, []string{"users", "--cert-file", "x.pem"}).wantUsage(t, "--cert-file", "--key-file")
}

func TestVersion(t *testing.T) {
	flag, command := pealctl(t, []string{"--version"}), pealctl(t, []string{"version"})
	if flag.status != 0 || flag.stdout == "" || flag != command {
		t.Errorf("--version says %+v, version %+v", flag, command)
	}
}

func TestWebServerAtTheAddress(t *testing.T) {
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.Config.Protocols = new(http.Protocols)
	web.Config.Protocols.SetUnencryptedHTTP2(true)
	web.Start()
	defer web.Close()
	addr := web.Listener.Addr().String()
	pealctl(t, []string{"--addr", addr, "users"}).wantError(t, addr, "no gRPC", "127.0.0.1:9090")
}
