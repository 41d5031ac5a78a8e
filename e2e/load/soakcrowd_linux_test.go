package load_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

const (
	crowdUsers      = 20
	crowdPublishers = 2
)

// crowd consists of clients that connect and disconnect, and of publishers.
type crowd struct {
	daemon  *daemonProcess
	control pealv1.ControlServiceClient
	policy  string
	clients int
	tokens  []string // by user

	tls func(protocols ...string) *tls.Config // nil for plain text

	broadcasts [crowdPublishers]int // the number of broadcasts by each publisher

	opened, rejected, events, resets, closedByServer, published atomic.Int64

	mu     sync.Mutex
	faults []string
}

func newCrowd(t *testing.T, d *daemonProcess, policy string, clients int) *crowd {
	t.Helper()

	conn, err := grpc.NewClient(d.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = conn.Close() })

	c := &crowd{daemon: d, control: pealv1.NewControlServiceClient(conn), policy: policy, clients: clients}

	for user := range crowdUsers {
		reply, err := c.control.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: userID(user)})
		if err != nil {
			t.Fatal(err)
		}

		c.tokens = append(c.tokens, reply.GetToken())
	}

	return c
}

func userID(user int) string { return fmt.Sprintf("user-%d", user) }

// run runs clients and publishers for d, and then until a client has received an
// event: on a busy machine, a TLS handshake alone can take longer than d. It returns
// when all clients have disconnected.
func (c *crowd) run(t *testing.T, d time.Duration) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), d+2*time.Minute)
	defer cancel()

	var all sync.WaitGroup

	received := c.events.Load()
	all.Go(func() {
		for wait := d; pause(ctx, wait) && c.events.Load() == received; {
			wait = 20 * time.Millisecond
		}
		cancel()
	})

	for range c.clients {
		all.Go(func() {
			// Clients connect at random times, sometimes many at once.
			for pause(ctx, rand.N(100*time.Millisecond)) {
				c.visit(ctx)
			}
		})
	}

	for publisher := range crowdPublishers {
		all.Go(func() { c.publish(ctx, publisher) })
	}

	c.watch(ctx, t, d)
	all.Wait()

	for _, fault := range c.faults {
		t.Error(fault)
	}

	c.faults = nil
}

// watch logs the progress until ctx is done.
func (c *crowd) watch(ctx context.Context, t *testing.T, d time.Duration) {
	t.Helper()

	began := time.Now()
	for pause(ctx, max(time.Second, d/20)) {
		r, err := c.daemon.readResources()
		if err != nil {
			c.faultf("reading the daemon's metrics: %v", err)

			return
		}

		t.Logf("%s of %s: %s; %s", time.Since(began).Round(time.Second), d, r, c.summary())
	}
}

// summary returns the counters so far.
func (c *crowd) summary() string {
	return fmt.Sprintf("%d streams opened, %d rejected, %d closed by the daemon; %d messages published, %d events received, %d of them resets",
		c.opened.Load(), c.rejected.Load(), c.closedByServer.Load(), c.published.Load(), c.events.Load(), c.resets.Load())
}

// faultf records a fault. Only the first ten are kept.
func (c *crowd) faultf(format string, args ...any) {
	const maxFaults = 10

	c.mu.Lock()
	defer c.mu.Unlock()

	if len(c.faults) < maxFaults {
		c.faults = append(c.faults, fmt.Sprintf(format, args...))
	}
}

// publish publishes until ctx is done. Each message contains its audience, its
// publisher and, for broadcasts, the publisher's consecutive number.
func (c *crowd) publish(ctx context.Context, publisher int) {
	until := ctx
	ctx = context.WithoutCancel(ctx) // calls in flight are completed

	for pause(until, rand.N(8*time.Millisecond)) {
		var err error

		filling := strings.Repeat("x", int(min(rand.ExpFloat64()*(8<<10), 48<<10)))

		switch rand.IntN(20) {
		case 0:
			_, err = c.control.ListUsers(ctx, &pealv1.ListUsersRequest{})
		case 1:
			_, err = c.control.Stats(ctx, &pealv1.StatsRequest{})
		case 2, 3, 4, 5, 6, 7, 8:
			user := userID(rand.IntN(crowdUsers))
			data := fmt.Sprintf("%s %d 0 %s", user, publisher, filling)
			_, err = c.control.SendToUser(ctx, &pealv1.SendToUserRequest{UserId: user, Data: data})
			c.published.Add(1)
		default:
			number := c.broadcasts[publisher]
			c.broadcasts[publisher]++
			data := fmt.Sprintf("everyone %d %d %s", publisher, number, filling)
			_, err = c.control.Broadcast(ctx, &pealv1.BroadcastRequest{Data: data})
			c.published.Add(1)
		}

		if err != nil {
			c.faultf("publishing: %v", err)

			return
		}
	}
}
