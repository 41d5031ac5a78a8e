package redis_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Whatever happens to connections, locks, nodes and the server, each message is published
// once and in order.
func TestEntriesSurviveFailures(t *testing.T) {
	t.Parallel()

	const messages = 1500

	s := startServer(t)
	streams := []string{"a", "b"}
	to := newPublisher()
	cfg := config(s, streams...)
	cfg.Delete = true

	nodes := make([]*node, 3)
	for i := range nodes {
		nodes[i] = run(t, fmt.Sprint("node-", i), to, cfg)
	}

	var producing sync.WaitGroup
	produced := make(chan struct{})
	for _, stream := range streams {
		producing.Go(func() { produce(t.Context(), s.addr, stream, messages) })
	}
	go func() {
		defer close(produced)
		producing.Wait()
	}()

	for i := 0; ; i++ {
		select {
		case <-produced:
			for _, stream := range streams {
				to.awaitNumbered(t, stream, messages)
			}
			t.Logf("%d messages were published again after %d failures", to.repeated, i)
			return
		case <-time.After(time.Duration(50+rand.IntN(300)) * time.Millisecond):
		}

		switch i % 4 {
		case 0:
			s.cut(t)
		case 1:
			expireLocks(t, s, streams)
		case 2:
			n := rand.IntN(len(nodes))
			nodes[n].stop()
			nodes[n] = run(t, fmt.Sprint("node-", len(nodes)+i), to, cfg)
		case 3:
			s.kill()
			s.start(t)
		}
	}
}

// expireLocks removes the locks on streams, as if their holders had been suspended.
func expireLocks(tb testing.TB, s *server, streams []string) {
	tb.Helper()

	for _, stream := range streams {
		if err := s.client(tb).Del(tb.Context(), "peald:source:{"+stream+"}:"+stream+":peald").Err(); err != nil {
			tb.Fatal(err)
		}
	}
}

// produce appends n numbered entries to a stream, one by one. After a failure it looks
// up the last entry that was stored, in a key that is written together with the entry.
func produce(ctx context.Context, addr, stream string, n int) {
	client := goredis.NewClient(&goredis.Options{Addr: addr, MaxRetries: -1})
	defer client.Close()

	counter := "produced:" + stream
	for i := 0; i < n && ctx.Err() == nil; {
		_, err := client.TxPipelined(ctx, func(p goredis.Pipeliner) error {
			p.XAdd(ctx, &goredis.XAddArgs{Stream: stream, Values: []string{"topic", stream, "data", fmt.Sprint(i)}})
			p.Set(ctx, counter, i+1, 0)

			return nil
		})
		if err == nil {
			i++
			time.Sleep(500 * time.Microsecond)
			continue
		}

		for ctx.Err() == nil {
			text, err := client.Get(ctx, counter).Result()
			if err == nil {
				i, _ = strconv.Atoi(text)
				break
			}
			if err == goredis.Nil {
				i = 0
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
