package daemon_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/daemon"
)

func TestSettle(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		servesAfter time.Duration // 0 for never
		want        string        // the expected call
		after       time.Duration
	}{
		"caught up":  {4 * time.Second, "serving", 4 * time.Second},
		"first node": {0, "not serving", 30 * time.Second},
		"shut down":  {0, "", 10 * time.Second},
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
				began, got := time.Now(), ""
				daemon.Settle(ctx, served, func(serving bool) {
					got = "not serving"
					if serving {
						got = "serving"
					}
				})
				if took := time.Since(began); got != c.want || took != c.after {
					t.Errorf("got %q after %s, want %q after %s", got, took, c.want, c.after)
				}
			})
		})
	}
}
