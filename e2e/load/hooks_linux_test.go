package load_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/hooktest"
)

// hookFaults fails a third of the requests to a receiver, half of them after the
// receiver has handled the request. While down is set, it fails all.
type hookFaults struct {
	receiver         *hooktest.Receiver
	down             atomic.Bool
	requests, failed atomic.Int64
}

// ServeHTTP implements [http.Handler].
func (f *hookFaults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.requests.Add(1)
	switch n := rand.IntN(6); {
	case f.down.Load():
		f.failed.Add(1)
		panic(http.ErrAbortHandler) // breaks the connection
	case n == 0:
		f.failed.Add(1)
		f.receiver.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case n == 1:
		f.failed.Add(1)
		http.Error(w, "failing", http.StatusInternalServerError)
	default:
		f.receiver.ServeHTTP(w, r)
	}
}

// TestHooksUnderLoad connects and disconnects users over three nodes while the receiver
// of a webhook fails a third of the requests and is down for a while, and while the node
// that sends is killed. In the end, the receiver must know exactly the users that
// ListUsers lists, and it must never have got the events of a user out of order. HOOKS
// sets the number of users; with 2000 or more, the test takes a minute and a half. By
// default, there are 20 for a few seconds.
func TestHooksUnderLoad(t *testing.T) {
	const delay = 2 * time.Second
	users, duration, downFor := 20, 8*time.Second, 2*time.Second
	if text := os.Getenv("HOOKS"); text != "" {
		if _, err := fmt.Sscan(text, &users); err != nil || users < 1 {
			t.Fatalf("HOOKS: invalid number %q", text)
		}
		duration, downFor = time.Minute, 20*time.Second
	} else {
		t.Parallel()
	}

	f := &hookFaults{receiver: hooktest.NewReceiver(delay)}
	server := httptest.NewServer(f)
	server.Config.ErrorLog = nil
	t.Cleanup(server.Close)
	nodes := startNodes(t, 3, "--hooks", fmt.Sprintf(`[{"url":%q,"secret":%q,"delay":%q,"events":["user.online","user.offline"]}]`, server.URL, hooktest.Secret, delay))
	crowd := newHookCrowd(t, nodes, users)

	time.Sleep(duration / 4)
	f.down.Store(true)
	time.Sleep(downFor)
	f.down.Store(false)
	sender := hookSender(t, nodes)
	t.Logf("the node that sends is killed: %d", slices.Index(nodes, sender))
	sender.end(syscall.SIGKILL)
	time.Sleep(duration - duration/4 - downFor)
	sender.start(t)
	sender.awaitReady(t)

	want := crowd.settle()
	var listed, got, faults []string
	control := nodes[0].control(t)
	if !eventually(2*time.Minute, func() bool {
		listed = listUsers(t, control)
		got, faults = f.receiver.Present()
		return slices.Equal(listed, want) && slices.Equal(got, want)
	}) {
		t.Errorf("%d users are connected; the receiver knows %d, and ListUsers lists %d", len(want), len(got), len(listed))
	}
	for _, fault := range faults[:min(len(faults), 20)] {
		t.Error(fault)
	}

	events := 0
	for _, list := range f.receiver.Events() {
		events += len(list)
	}
	if events < users/2 || f.failed.Load() == 0 {
		t.Errorf("the receiver got %d events, and %d requests failed", events, f.failed.Load())
	}
	t.Logf("%d streams opened by %d users, %d of them online in the end; %d events applied; %d requests, %d of them failed; %d faults",
		crowd.opened.Load(), users, len(want), events, f.requests.Load(), f.failed.Load(), len(faults))
}

// hookSender returns the node that sends.
func hookSender(t *testing.T, nodes []*clusterNode) (sender *clusterNode) {
	t.Helper()
	if !eventually(time.Minute, func() bool {
		for _, n := range nodes {
			if n.sendsHooks() {
				sender = n
				return true
			}
		}
		return false
	}) {
		t.Fatal("no node sends webhooks after a minute")
	}
	return sender
}

// sendsHooks reports whether the node sends its only webhook.
func (n *clusterNode) sendsHooks() bool {
	_, rest, _ := strings.Cut(n.metrics(), "\npeald_hook_sending{")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.HasSuffix(line, " 1")
}

// listUsers returns the users that are connected to any node, as the receiver names
// them.
func listUsers(t *testing.T, control pealv1.ControlServiceClient) (users []string) {
	t.Helper()
	request := &pealv1.ListUsersRequest{PageSize: 1000}
	for {
		reply, err := control.ListUsers(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range reply.GetUsers() {
			users = append(users, "user "+u.GetUserId())
		}
		if request.PageToken = reply.GetNextPageToken(); request.GetPageToken() == "" {
			return users
		}
	}
}

// hookCrowd is a crowd of users who connect and disconnect.
type hookCrowd struct {
	nodes    []*clusterNode
	tokens   []string
	stopping chan struct{} // closed when users should no longer disconnect
	opened   atomic.Int64
}

// newHookCrowd starts users, who connect and disconnect until the test ends.
func newHookCrowd(t *testing.T, nodes []*clusterNode, users int) *hookCrowd {
	t.Helper()
	c := &hookCrowd{nodes: nodes, stopping: make(chan struct{})}
	control := nodes[0].control(t)
	for i := range users {
		reply, err := control.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: fmt.Sprint("user", i)})
		if err != nil {
			t.Fatal(err)
		}
		c.tokens = append(c.tokens, reply.GetToken())
	}

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	for i := range users {
		running.Go(func() { c.runUser(ctx, i) })
	}
	return c
}

// staysAway reports whether a user is disconnected in the end.
func staysAway(user int) bool { return user%3 == 0 }

// settle makes users stay connected or disconnected, and returns the connected ones,
// as the receiver names them.
func (c *hookCrowd) settle() (online []string) {
	close(c.stopping)
	for i := range c.tokens {
		if !staysAway(i) {
			online = append(online, fmt.Sprint("user user", i))
		}
	}
	slices.Sort(online)
	return online
}

// runUser connects and disconnects a user until ctx is done.
func (c *hookCrowd) runUser(ctx context.Context, user int) {
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: transport}
	for ctx.Err() == nil {
		stays, pause := rand.N(6*time.Second), rand.N(5*time.Second)
		select {
		case <-c.stopping:
			if staysAway(user) {
				return
			}
			stays, pause = time.Hour, rand.N(time.Second)
		default:
		}
		c.connect(ctx, client, user, stays)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// connect opens a stream on a random node, for at most the given time.
func (c *hookCrowd) connect(ctx context.Context, client *http.Client, user int, stays time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, stays)
	defer cancel()
	query := url.Values{"access_token": {c.tokens[user]}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.nodes[rand.IntN(len(c.nodes))].sse+"/events?"+query.Encode(), http.NoBody)
	if err != nil {
		return
	}
	resp, err := client.Do(req)
	if err != nil {
		return
	}
	defer func() { _ = resp.Body.Close() }()
	c.opened.Add(1)
	_, _ = io.Copy(io.Discard, resp.Body)
}
