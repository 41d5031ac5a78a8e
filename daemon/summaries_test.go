package daemon_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/daemon"
)

func TestTroublesAreToldOncePerLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var said bytes.Buffer
		var full atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			daemon.TellTroubles(ctx, slog.New(slog.NewTextHandler(&said, nil)), full.Load)
		}()
		lines := func() int {
			time.Sleep(10 * time.Second)
			synctest.Wait()
			return strings.Count(said.String(), "\n")
		}
		synctest.Wait()
		if n := lines(); n != 0 {
			t.Errorf("nothing has happened, and %d lines say what", n)
		}
		full.Add(3000)
		if n := lines(); n != 1 || !strings.Contains(said.String(), "sse.max_connections") || !strings.Contains(said.String(), "streams=3000") {
			t.Errorf("after 3000 refusals the log says %q", said.String())
		}
		if n := lines(); n != 1 {
			t.Errorf("what was told before is told again: %q", said.String())
		}
		stop()
		<-done
	})
}
