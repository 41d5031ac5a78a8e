package broker_test

import (
	"regexp"
	"testing"

	"github.com/peald/peald/internal/broker"
)

// TestEpochsAreUnique makes several epochs per millisecond.
func TestEpochsAreUnique(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-z]{13}$`)
	before := ""
	for range 100 {
		epoch := broker.NewEpoch()
		if !form.MatchString(epoch) {
			t.Fatalf("epoch %q, want 13 digits and lowercase letters", epoch)
		}
		if epoch == before {
			t.Fatalf("two epochs are %q", epoch)
		}
		before = epoch
	}
}
