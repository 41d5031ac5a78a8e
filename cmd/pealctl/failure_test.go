package main_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestErrorMessages(t *testing.T) {
	d := startDaemon(t)
	for _, c := range []struct {
		err  error
		want []string
	}{
		{violation(t, "data", "event"), []string{"INVALID_ARGUMENT", "data: is invalid; event: is invalid"}},
		{status.Error(codes.Unauthenticated, "no token"), []string{"UNAUTHENTICATED", "--token", "PEALCTL_TOKEN"}},
		{status.Error(codes.PermissionDenied, "requires the scope publish"), []string{"PERMISSION_DENIED", "requires the scope publish"}},
		{status.Error(codes.FailedPrecondition, "auth.jwt.hmac_secret is not set"), []string{"FAILED_PRECONDITION", "isn't configured", "auth.jwt.hmac_secret"}},
		{statusWithReason(t, codes.FailedPrecondition, "NOT_REMOVABLE", "b is running"), []string{"FAILED_PRECONDITION", "can't be removed", "b is running"}},
		{statusWithReason(t, codes.NotFound, "UNKNOWN_NODE", "members are a, b"), []string{"NOT_FOUND", "unknown node", "members are a, b"}},
		{statusWithReason(t, codes.Unavailable, "LOG_UNAVAILABLE", "no leader"), []string{"UNAVAILABLE", "event log is unavailable", "no leader"}},
		{status.Error(codes.Unavailable, "stopping"), []string{"UNAVAILABLE", d.addr, "stopping"}},
		{status.Error(codes.Unimplemented, "what?"), []string{"UNIMPLEMENTED", "older"}},
		{status.Error(codes.Internal, "several\nlines"), []string{"INTERNAL", "several lines"}},
	} {
		d.set(func() { d.fail = c.err })
		d.pealctl(t, []string{"broadcast", "x"}).wantError(t, c.want...)
	}
}

// statusWithReason returns an error with a reason, in the same form as the
// daemon's.
func statusWithReason(t *testing.T, code codes.Code, reason, message string) error {
	t.Helper()
	st, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{Reason: reason})
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}

func TestConnectionRefused(t *testing.T) {
	pealctl(t, []string{"--addr", "127.0.0.1:1", "users"}).wantError(t, "UNAVAILABLE", "127.0.0.1:1", "refused")
}

func TestInvalidUsage(t *testing.T) {
	for _, c := range []struct{ args, want []string }{
		{[]string{"shout"}, []string{"unknown command", "shout"}},
		{[]string{"broadcast"}, []string{"missing DATA", "pealctl broadcast DATA"}},
		{[]string{"send", "alice"}, []string{"missing DATA", "pealctl send USER DATA"}},
		{[]string{"send"}, []string{"missing USER and DATA"}},
		{[]string{"broadcast", "two", "words"}, []string{`"words"`, "quote"}},
		{[]string{"version", "please"}, []string{`"please"`}},
		{[]string{"tail", "a", "b"}, []string{"at most one URL"}},
		{[]string{"tail", "localhost:8080"}, []string{"localhost:8080", "http://"}},
		{[]string{"tail", "ftp://localhost/events"}, []string{"ftp://", "http://"}},
		{[]string{"--addr", "localhost", "users"}, []string{"--addr", `"localhost"`, "HOST:PORT"}},
		{[]string{"--addr", "http://localhost:9090", "users"}, []string{"--addr", "without a scheme"}},
		{[]string{"bench", "--users", "2", "--user-token", "x"}, []string{"users", "user-token"}},
		{[]string{"bench", "--chaos", "--burst", "2"}, []string{"chaos", "burst"}},
		{[]string{"bench", "--resume", "2", "--rate", "2"}, []string{"resume", "rate"}},
		{[]string{"broadcast", "x", "--idempotency-key", ""}, []string{"--idempotency-key", "empty key"}},
		{[]string{"broadcast", "x", "--conflate-key", ""}, []string{"--conflate-key", "empty key"}},
		{[]string{"bench", "--plot", "/nonexistent/plot.svg"}, []string{"--plot", "/nonexistent/plot.svg"}},
		{[]string{"token"}, []string{"user"}},
		{[]string{"--output", "xml", "users"}, []string{"--output", "xml", "table, json"}},
		{[]string{"users", "--timeout", "soon"}, []string{"--timeout", "soon"}},
		{[]string{"stats", "5s"}, []string{"--watch", "5s"}},
		{[]string{"stats", "--watch", "often"}, []string{"--watch", "often"}},
	} {
		pealctl(t, c.args).wantUsage(t, c.want...)
	}

	pealctl(t, []string{"users", "--ca-file", "/nonexistent"}).wantError(t, "--ca-file", "/nonexistent")
	pealctl(t, []string{"users", "--cert-file", "x.pem"}).wantUsage(t, "--cert-file", "--key-file")
}

func TestVersion(t *testing.T) {
	flag, command := pealctl(t, []string{"--version"}), pealctl(t, []string{"version"})
	if flag.status != 0 || flag.stdout == "" || flag != command {
		t.Errorf("--version prints %+v, version %+v", flag, command)
	}
}

func TestAddrOfWebServer(t *testing.T) {
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.Config.Protocols = new(http.Protocols)
	web.Config.Protocols.SetUnencryptedHTTP2(true)
	web.Start()
	defer web.Close()
	addr := web.Listener.Addr().String()
	pealctl(t, []string{"--addr", addr, "users"}).wantError(t, addr, "doesn't speak gRPC", "127.0.0.1:9090")
}
