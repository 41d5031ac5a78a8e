package daemon_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/daemon"
)

func TestAStartWaitsForItsClusterForAWhile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		servesAfter time.Duration // 0 for never
		want        string
		after       time.Duration
	}{
		"caught up":     {4 * time.Second, "serving", 4 * time.Second},
		"the first one": {0, "not serving", 30 * time.Second},
		"told to end":   {0, "", 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				if c.want == "" {
					ctx, cancel = context.WithTimeout(t.Context(), c.after)
				}
				defer cancel()
				served := make(chan struct{})
				if c.servesAfter > 0 {
					time.AfterFunc(c.servesAfter, func() { close(served) })
				}
				begun, told := time.Now(), ""
				daemon.Settle(ctx, served, func(serving bool) {
					told = "not serving"
					if serving {
						told = "serving"
					}
				})
				if took := time.Since(begun); told != c.want || took != c.after {
					t.Errorf("told %q after %s, want %q after %s", told, took, c.want, c.after)
				}
			})
		})
	}
}
