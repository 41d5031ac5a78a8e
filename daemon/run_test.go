package daemon_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/testbed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testbed.LeftByNATS()...) }

// patience is a time limit for operations that normally take milliseconds.
const patience = 90 * time.Second

// running is a daemon in this process.
type running struct {
	daemon.Addresses

	end  context.CancelFunc // shuts the daemon down, like a signal
	done <-chan error       // receives the result of Run
}

// start runs a daemon on free ports. It stops the daemon when the test ends.
func start(t *testing.T, change func(*daemon.Config)) running {
	t.Helper()
	return startWith(t, daemon.Options{Version: "v1.2.3"}, change)
}

func startWith(t *testing.T, opts daemon.Options, change func(*daemon.Config)) running {
	t.Helper()
	cfg := onFreePorts()
	if change != nil {
		change(&cfg)
	}
	return startOn(t, opts, cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
}

// startLogging runs a daemon that logs to log at debug level.
func startLogging(t *testing.T, log io.Writer, change func(*daemon.Config)) running {
	t.Helper()
	cfg := onFreePorts()
	change(&cfg)
	return startOn(t, daemon.Options{}, cfg, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
}

func startOn(t *testing.T, opts daemon.Options, cfg daemon.Config, log *slog.Logger) running {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	ready, done, ended := make(chan daemon.Addresses, 1), make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		opts.Logger = log
		opts.Ready = func(a daemon.Addresses) error { ready <- a; return nil }
		done <- daemon.Run(ctx, cfg, opts)
	}()
	t.Cleanup(func() { end(); <-ended })
	select {
	case addresses := <-ready:
		return running{addresses, end, done}
	case err := <-done:
		t.Fatalf("the daemon doesn't start: %v", err)
	}
	panic("unreachable")
}

func onFreePorts() daemon.Config {
	cfg := daemon.Defaults()
	cfg.SSE.Addr, cfg.GRPC.Addr, cfg.REST.Addr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	return cfg
}

// awaitEnd returns the result of Run.
func (r running) awaitEnd(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		t.Fatalf("the daemon is still running after %s", patience)
		return nil
	}
}

// client returns a client with its own connections, which it closes when the test
// ends.
func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// stream opens an event stream and waits for its first line.
func stream(t *testing.T, c *http.Client, url string) *bufio.Reader {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if media := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || media != "text/event-stream" {
		t.Fatalf("GET %s: %s, %s", url, resp.Status, media)
	}
	lines := bufio.NewReader(resp.Body)
	awaitLine(t, lines, "retry: ")
	return lines
}

// awaitLine reads until it finds a line that begins with prefix.
func awaitLine(t *testing.T, lines *bufio.Reader, prefix string) {
	t.Helper()
	for {
		line, err := lines.ReadString('\n')
		if strings.HasPrefix(line, prefix) {
			return
		}
		if err != nil {
			t.Fatalf("the stream has no line with prefix %q: %v", prefix, err)
		}
	}
}

func controlClient(t *testing.T, addr string) (pealv1.ControlServiceClient, *grpc.ClientConn) {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return pealv1.NewControlServiceClient(conn), conn
}

// call sends a request and returns the status and the body of the response.
func call(t *testing.T, c *http.Client, method, url, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status + "\n" + string(reply)
}

func get(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	return call(t, c, http.MethodGet, url, "")
}

func TestCallsReachStreams(t *testing.T) {
	d := start(t, func(cfg *daemon.Config) { cfg.Auth.JWT.HMACSecret = secret })
	rpc, _ := controlClient(t, d.GRPC)
	web := client(t)
	token, err := rpc.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: "alice"})
	if err != nil {
		t.Fatal(err)
	}

	anonymous := stream(t, web, "http://"+d.SSE+"/events")
	alice := stream(t, web, "http://"+d.SSE+"/events?access_token="+token.GetToken())

	reply, err := rpc.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "over gRPC"})
	if err != nil || reply.GetRecipients() != 2 {
		t.Fatalf("broadcast: %v, %v", reply, err)
	}

	awaitLine(t, anonymous, "data: over gRPC")
	awaitLine(t, alice, "data: over gRPC")

	sent := call(t, web, http.MethodPost, "http://"+d.REST+"/v1/users/alice/messages", `{"data":"over REST"}`)
	if !strings.HasPrefix(sent, "200 ") {
		t.Fatalf("send: %s", sent)
	}

	awaitLine(t, alice, "event: individual")
	awaitLine(t, alice, "data: over REST")

	stats, err := rpc.Stats(t.Context(), &pealv1.StatsRequest{})
	if err != nil || stats.GetVersion() != "v1.2.3" || stats.GetUsers() != 1 || stats.GetMaxConnections() == 0 {
		t.Errorf("stats: %v, %v", stats, err)
	}

	waitForFamilies(t, d, func(families map[string]*dto.MetricFamily) bool {
		return byLabel(families["peald_deliveries_total"])[""] == 3
	})

	metrics := get(t, web, "http://"+d.REST+"/metrics")
	for _, line := range []string{
		"\npeald_connections 2\n", "\npeald_users 1\n", "\npeald_published_total 2\n", "\npeald_deliveries_total 3\n",
		"\npeald_queue_bytes 0\n", "\ngo_goroutines ", "\nprocess_open_fds ",
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("metrics have no line %q:\n%s", strings.TrimSpace(line), metrics)
		}
	}
	if ready := get(t, web, "http://"+d.REST+"/readyz"); !strings.HasPrefix(ready, "200 ") {
		t.Errorf("readiness: %s", ready)
	}
	if page := get(t, web, "http://"+d.SSE+"/metrics"); !strings.HasPrefix(page, "404 ") {
		t.Errorf("metrics are served to browsers: %s", page)
	}

	d.end()

	for _, lines := range []*bufio.Reader{anonymous, alice} {
		if _, err := io.Copy(io.Discard, lines); err != nil {
			t.Errorf("a stream fails with %v", err)
		}
	}
	if err := d.awaitEnd(t); err != nil {
		t.Errorf("Run returned %v", err)
	}

	for _, addr := range []string{d.SSE, d.GRPC, d.REST} {
		if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr); err == nil {
			_ = conn.Close()
			t.Errorf("%s still accepts connections", addr)
		}
	}
}

func TestMaxConnections(t *testing.T) {
	d := start(t, func(cfg *daemon.Config) { cfg.SSE.MaxConnections = 1 })
	web := client(t)
	held := stream(t, web, "http://"+d.SSE+"/events")
	rejected := stream(t, web, "http://"+d.SSE+"/events")
	if rest, err := io.ReadAll(rejected); err != nil || strings.TrimSpace(string(rest)) != "" {
		t.Errorf("after its retry a rejected stream gets %q (%v)", rest, err)
	}
	if metrics := get(t, web, "http://"+d.REST+"/metrics"); !strings.Contains(metrics, "\npeald_refused_total{reason=\"max_connections\"} 1\n") || !strings.Contains(metrics, "\npeald_max_connections 1\n") {
		t.Errorf("metrics are\n%s", metrics)
	}
	d.end()
	_, _ = io.Copy(io.Discard, held)
}

func TestAddressInUse(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, key := range []string{"sse.addr", "grpc.addr", "rest.addr"} {
		cfg := onFreePorts()
		switch key {
		case "sse.addr":
			cfg.SSE.Addr = taken.Addr().String()
		case "grpc.addr":
			cfg.GRPC.Addr = taken.Addr().String()
		case "rest.addr":
			cfg.REST.Addr = taken.Addr().String()
		}
		err := daemon.Run(t.Context(), cfg, daemon.Options{})
		if want := key + " " + taken.Addr().String() + ": address already in use; set a different address, or port 0 for any free port"; err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

func TestInvalidConfigDoesNotRun(t *testing.T) {
	cfg := onFreePorts()
	cfg.SSE.Path = ""
	err := daemon.Run(t.Context(), cfg, daemon.Options{})
	if setting, ok := errors.AsType[*daemon.SettingError](err); !ok || setting.Key != "sse.path" {
		t.Errorf("error is %v", err)
	}
}

func TestMoreStreamsThanDescriptors(t *testing.T) {
	cfg := onFreePorts()
	cfg.SSE.MaxConnections = 1 << 30
	err := daemon.Run(t.Context(), cfg, daemon.Options{})
	if setting, ok := errors.AsType[*daemon.SettingError](err); !ok || setting.Key != "sse.max_connections" {
		t.Errorf("error is %v", err)
	}
}

func TestErrorOfReady(t *testing.T) {
	want := errors.New("failed")
	err := daemon.Run(t.Context(), onFreePorts(), daemon.Options{
		Ready: func(daemon.Addresses) error { return want },
	})
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want %v", err, want)
	}
}

func TestSilentConnectionsDoNotDelayShutdown(t *testing.T) {
	d := start(t, nil)
	for _, addr := range []string{d.SSE, d.REST, d.GRPC} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	// Listeners accept in order, so the connections above are accepted by now.
	stream(t, client(t), "http://"+d.SSE+"/events")
	get(t, client(t), "http://"+d.REST+"/healthz")
	const limit = 4 * time.Second // net/http alone would wait five
	began := time.Now()
	d.end()
	if err := d.awaitEnd(t); err != nil || time.Since(began) > limit {
		t.Errorf("Run returned after %s with %v", time.Since(began), err)
	}
}

// TestLongCallsEndAtShutdown checks that a PublishStream and a watch, which would
// stay open forever, end immediately with an error that states the cause.
func TestLongCallsEndAtShutdown(t *testing.T) {
	d := start(t, nil)
	rpc, _ := controlClient(t, d.GRPC)
	watch, err := rpc.WatchConnections(t.Context(), &pealv1.WatchConnectionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := watch.Recv(); err != nil || first.GetSnapshotComplete() == nil {
		t.Fatalf("the first message in the watch is %v, %v", first, err)
	}

	messages, err := rpc.PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	everyone := &pealv1.PublishStreamRequest_Everyone{Everyone: true}
	if err := messages.Send(&pealv1.PublishStreamRequest{Audience: everyone, Data: "hi"}); err != nil {
		t.Fatal(err)
	}
	if reply, err := messages.Recv(); err != nil || reply.GetAcks()[0].GetId() == "" {
		t.Fatalf("the acknowledgement is %v, %v", reply, err)
	}

	const soon = time.Second // calls are cut off after two
	began := time.Now()
	d.end()

	for _, stream := range []interface{ RecvMsg(any) error }{watch, messages} {
		if err := stream.RecvMsg(&pealv1.StatsResponse{}); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "the daemon is shutting down") {
			t.Errorf("a call fails with %v", err)
		}
	}
	if err := d.awaitEnd(t); err != nil || time.Since(began) > soon {
		t.Errorf("Run returned after %s with %v", time.Since(began), err)
	}
}

func TestLongCallsAreCut(t *testing.T) {
	d := start(t, func(cfg *daemon.Config) { cfg.Drain.Timeout = 300 * time.Millisecond })
	_, conn := controlClient(t, d.GRPC)
	watch, err := healthv1.NewHealthClient(conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if seen, err := watch.Recv(); err != nil || seen.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Fatalf("health is %v, %v", seen, err)
	}
	d.end()
	if seen, err := watch.Recv(); err != nil || seen.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health at shutdown is %v, %v", seen, err)
	}
	if err := d.awaitEnd(t); err != nil {
		t.Errorf("Run returned %v", err)
	}
}
