package redis_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/internal/sourcetest"
)

// Whatever happens to connections, locks, nodes and the server, each message is published
// once and in order.
func TestEntriesSurviveFailures(t *testing.T) {
	t.Parallel()

	const messages = 1500

	s := sourcetest.StartRedis(t)
	streams := []string{"a", "b"}
	to := new(sourcetest.Publisher)
	cfg := config(s, streams...)
	cfg.Delete = true

	nodes := make([]*sourcetest.Node, 3)
	for i := range nodes {
		nodes[i] = run(t, fmt.Sprint("node-", i), to, cfg)
	}

	var producing sync.WaitGroup
	produced := make(chan struct{})
	for _, stream := range streams {
		client := s.Client(t)
		producing.Go(func() {
			for i := range messages {
				key := fmt.Sprint(stream, " ", i)
				if sourcetest.AppendOnce(t.Context(), client, stream, key, []string{"topic", stream, "data", fmt.Sprint(i)}) != nil {
					return // the test has ended
				}
			}
		})
	}
	go func() {
		defer close(produced)
		producing.Wait()
	}()

	for i := 0; ; i++ {
		select {
		case <-produced:
			for _, stream := range streams {
				awaitNumbered(t, to, stream, messages)
			}
			t.Logf("%d messages were published again after %d failures", to.Repeats(), i)
			return
		case <-time.After(time.Duration(50+rand.IntN(300)) * time.Millisecond):
		}

		switch i % 4 {
		case 0:
			cut(t, s)
		case 1:
			expireLocks(t, s, streams)
		case 2:
			n := rand.IntN(len(nodes))
			nodes[n].Stop()
			nodes[n] = run(t, fmt.Sprint("node-", len(nodes)+i), to, cfg)
		case 3:
			s.Kill()
			s.Start(t)
		}
	}
}

// expireLocks removes the locks on streams, as if their holders had been suspended.
func expireLocks(tb testing.TB, s *sourcetest.Redis, streams []string) {
	tb.Helper()

	for _, stream := range streams {
		if err := s.Client(tb).Del(tb.Context(), "peald:source:{"+stream+"}:"+stream+":peald").Err(); err != nil {
			tb.Fatal(err)
		}
	}
}
