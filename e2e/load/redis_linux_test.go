package load_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/peald/peald/internal/sourcetest"
)

// TestRedisLosesNothing is like TestKafkaLosesNothing, with streams in Redis. SOAK_REDIS
// sets the number of messages.
func TestRedisLosesNothing(t *testing.T) {
	t.Parallel()

	redis := sourcetest.StartRedis(t)
	source := &testedSource{name: "redis", server: redis, suspend: 15 * time.Second, turn: 3}
	streams := []string{"events0", "events1"}
	nodes := source.startNodes(t, redis.Addr, func(addr string) map[string]any {
		return map[string]any{
			"redis": map[string]any{"url": "redis://" + addr, "streams": streams, "delete": true},
			"map":   map[string]string{"topic": "{field.topic}", "user_id": "{field.user}", "everyone": "{field.everyone}"},
		}
	})

	losesNothing(t, "SOAK_REDIS", source, &pausingServer{sourceServer: redis}, nodes, func() sender { return connectRedis(t, redis, streams) })
}

// connectRedis returns a sender that appends the messages for an audience to one of the
// streams, so that they stay in order.
func connectRedis(t *testing.T, server *sourcetest.Redis, streams []string) sender {
	t.Helper()

	client := server.Client(t)

	return func(ctx context.Context, audience string, data []string) error {
		entries := make([][]string, len(data))
		for i, text := range data {
			entries[i] = []string{"data", text}
			for name, value := range audienceHeaders(audience) {
				entries[i] = append(entries[i], name, value)
			}
		}

		stream := streams[len(audience)%len(streams)]
		if err := sourcetest.AppendOnce(ctx, client, stream, data[0], entries...); err != nil {
			return fmt.Errorf("append to %s: %w", stream, err)
		}

		return nil
	}
}
