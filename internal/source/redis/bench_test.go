package redis_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/sourcetest"
)

// BenchmarkRead measures how many entries with 100 bytes of data are read, published and
// acknowledged. The publisher only counts.
func BenchmarkRead(b *testing.B) {
	s := sourcetest.StartRedis(b)
	client := s.Client(b)
	data := strings.Repeat("x", 100)

	for left := b.N; left > 0; left -= 1000 {
		_, err := client.Pipelined(b.Context(), func(p goredis.Pipeliner) error {
			for range min(left, 1000) {
				p.XAdd(b.Context(), &goredis.XAddArgs{Stream: "events", Values: []string{"topic", "a", "data", data}})
			}

			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}

	to := &counter{done: make(chan struct{}), left: b.N}
	b.ResetTimer()
	run(b, "a", to, config(s, "events"))
	<-to.done
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	eventually(b, "all are acknowledged", func() error { return acknowledged(b, client, "events") })
}

// counter is a publisher that closes done once it has published the given number of
// messages.
type counter struct {
	done chan struct{}
	left int
}

func (*counter) Ready() error { return nil }

func (c *counter) PublishInOrder(_ context.Context, messages []broker.Message) ([]error, error) {
	if c.left -= len(messages); c.left == 0 {
		close(c.done)
	} else if c.left < 0 {
		return nil, fmt.Errorf("%d messages too many", -c.left)
	}

	return make([]error, len(messages)), nil
}
