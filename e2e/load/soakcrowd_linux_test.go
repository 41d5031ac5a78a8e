package load_test

import (
	"context"
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
	crowdSize       = 120
	crowdUsers      = 20
	crowdPublishers = 2
)

// crowd is clients who come and go, and publishers.
type crowd struct {
	daemon  *soaked
	control pealv1.ControlServiceClient
	policy  string
	tokens  []string // by user

	broadcasts [crowdPublishers]int // how many each has made

	opened, refused, events, resets, endedByServer, published atomic.Int64

	mu     sync.Mutex
	faults []string
}

func newCrowd(t *testing.T, d *soaked, policy string) *crowd {
	t.Helper()

	conn, err := grpc.NewClient(d.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = conn.Close() })

	c := &crowd{daemon: d, control: pealv1.NewControlServiceClient(conn), policy: policy}

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

// live has everybody do their thing for so long, and returns when all have left.
func (c *crowd) live(t *testing.T, d time.Duration) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()

	var everybody sync.WaitGroup
	for range crowdSize {
		everybody.Go(func() {
			// They don't come all at once, but in a storm at times.
			for pause(ctx, rand.N(100*time.Millisecond)) {
				c.visit(ctx)
			}
		})
	}

	for publisher := range crowdPublishers {
		everybody.Go(func() { c.publish(ctx, publisher) })
	}

	c.watch(ctx, t, d)
	everybody.Wait()

	for _, fault := range c.faults {
		t.Error(fault)
	}

	c.faults = nil
}

// watch shows how it goes until ctx is over.
func (c *crowd) watch(ctx context.Context, t *testing.T, d time.Duration) {
	t.Helper()

	began := time.Now()
	for pause(ctx, max(time.Second, d/20)) {
		v, err := c.daemon.readVitals()
		if err != nil {
			c.faultf("the daemon's metrics: %v", err)

			return
		}

		t.Logf("%s of %s: %s; %s", time.Since(began).Round(time.Second), d, v, c.tale())
	}
}

// tale is what has happened so far.
func (c *crowd) tale() string {
	return fmt.Sprintf("%d streams opened, %d refused, %d ended by the daemon; %d messages published, %d events seen, %d of them resets",
		c.opened.Load(), c.refused.Load(), c.endedByServer.Load(), c.published.Load(), c.events.Load(), c.resets.Load())
}

// faultf notes what should not be, once or a few times.
func (c *crowd) faultf(format string, args ...any) {
	const enough = 10

	c.mu.Lock()
	defer c.mu.Unlock()

	if len(c.faults) < enough {
		c.faults = append(c.faults, fmt.Sprintf(format, args...))
	}
}

// publish publishes until ctx is over. Each message says whom it is for, who
// published it, and for a broadcast the how manieth of theirs it is.
func (c *crowd) publish(ctx context.Context, publisher int) {
	until := ctx
	ctx = context.WithoutCancel(ctx) // a call that has begun comes to its end

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
			data := fmt.Sprintf("everybody %d %d %s", publisher, number, filling)
			_, err = c.control.Broadcast(ctx, &pealv1.BroadcastRequest{Data: data})
			c.published.Add(1)
		}

		if err != nil {
			c.faultf("publishing: %v", err)

			return
		}
	}
}
