package cluster_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/peald/peald/internal/broker"
)

// TestPublishInOrder checks the results of messages, some of which are rejected, and
// that a repetition returns the same results and publishes nothing.
func TestPublishInOrder(t *testing.T) {
	t.Parallel()
	m := start(t, configs(t, 1)[0])
	serving(t, m)
	c := m.connect(t, broker.Subscription{User: "alice"})

	var messages []broker.Message
	for i := range 1500 { // more than a batch
		message := toUser("alice", fmt.Sprint(i))
		message.IdempotencyKey = fmt.Sprint("key", i)
		messages = append(messages, message)
	}
	messages[3].Data = ""
	messages[7].IdempotencyKey = "key5"
	messages[1400].Data = strings.Repeat("x", broker.MaxData+1)

	var want []string
	for i, message := range messages {
		if i != 3 && i != 7 && i != 1400 {
			want = append(want, message.Data)
		}
	}

	for range 2 {
		results, err := m.PublishInOrder(t.Context(), messages)
		if err != nil || len(results) != len(messages) {
			t.Fatalf("%d results, %v; want %d", len(results), err, len(messages))
		}
		for i, result := range results {
			_, invalid := errors.AsType[*broker.InvalidError](result)
			switch {
			case i == 3 || i == 1400:
				if !invalid {
					t.Errorf("message %d: %v, want an InvalidError", i, result)
				}
			case i == 7:
				if !errors.Is(result, broker.ErrKeyUsed) {
					t.Errorf("message %d: %v, want ErrKeyUsed", i, result)
				}
			case result != nil:
				t.Errorf("message %d: %v", i, result)
			}
		}
	}
	m.publish(t, toAll("last"))
	c.gets(t, append(want, "last")...)

	m.end(t)
	if results, err := m.PublishInOrder(t.Context(), messages[:2]); err == nil || len(results) != 0 {
		t.Errorf("%d results, %v after the node was shut down", len(results), err)
	}
}
