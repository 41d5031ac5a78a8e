package daemon_test

import (
	"strings"
	"testing"

	"github.com/peald/peald/daemon"
)

// TestHistoryDisabled expects a warning at startup, and at reloads that change the
// setting.
func TestHistoryDisabled(t *testing.T) {
	t.Parallel()

	const warning = `level=WARN msg="history disabled" setting=history.max_events`

	without := func(cfg *daemon.Config) { cfg.History.MaxEvents = 0 }

	r := startReloadable(t, daemon.Options{}, without)
	if logged := r.log.Take(); strings.Count(logged, warning) != 1 {
		t.Errorf("the log is\n%s\nwant %s once", logged, warning)
	}

	if logged := r.reload(t, func(cfg *daemon.Config) { cfg.SSE.Retry *= 2 }); strings.Contains(logged, "history disabled") {
		t.Errorf("after a reload with another setting, the log is\n%s", logged)
	}

	if logged := r.reload(t, func(cfg *daemon.Config) { cfg.History.MaxEvents = 1 }); strings.Contains(logged, "history disabled") {
		t.Errorf("with a history, the log is\n%s", logged)
	}

	if logged := r.reload(t, without); strings.Count(logged, warning) != 1 {
		t.Errorf("after a reload that disables the history, the log is\n%s", logged)
	}
}
