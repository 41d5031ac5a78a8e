package listen_test

import (
	"testing"

	"github.com/peald/peald/internal/listen"
)

func TestBudget(t *testing.T) {
	t.Parallel()

	for _, test := range []struct{ limit, streams, idle int }{
		{64, 0, 16},
		{128, 48, 16},
		{1024, 672, 64},
		{4096, 3552, 256},
		{20000, 18688, 1024},
		{1 << 20, 1<<20 - 32 - 256 - 1024, 1024},
	} {
		b := listen.BudgetOf(test.limit)
		if b.Streams != test.streams || b.Idle != test.idle {
			t.Errorf("budget of %d descriptors is %+v, want %d for streams and %d idle", test.limit, b, test.streams, test.idle)
		}

		if fewer := b.WithStreams(b.Streams / 2); fewer.Connections() != b.Connections() {
			t.Errorf("with %d streams there are %d connections, want %d", fewer.Streams, fewer.Connections(), b.Connections())
		}
	}
}
