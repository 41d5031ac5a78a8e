package broker_test

import (
	"regexp"
	"testing"

	"github.com/peald/peald/internal/broker"
)

// TestEpochsOfOneMomentDiffer makes epochs faster than the clock ticks.
func TestEpochsOfOneMomentDiffer(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-z]{13}$`)
	before := ""
	for range 100 {
		epoch := broker.NewEpoch()
		if !form.MatchString(epoch) {
			t.Fatalf("epoch %q, want 13 digits and small letters", epoch)
		}
		if epoch == before {
			t.Fatalf("two logs have the epoch %q", epoch)
		}
		before = epoch
	}
}
