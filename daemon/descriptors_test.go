package daemon_test

import (
	"testing"

	"github.com/peald/peald/daemon"
)

func TestDescriptorsAreKeptForTheControlPlane(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ limit, streams, passing int }{
		{64, 0, 16},
		{128, 48, 16},
		{1024, 672, 64},
		{4096, 3552, 256},
		{20000, 18688, 1024},
		{1 << 20, 1<<20 - 32 - 256 - 1024, 1024},
	} {
		streams, passing := daemon.BudgetFor(test.limit)
		if streams != test.streams || passing != test.passing {
			t.Errorf("of %d descriptors %d are for streams and %d for passing, want %d and %d",
				test.limit, streams, passing, test.streams, test.passing)
		}
	}
}
