package daemon_test

import (
	"strings"
	"testing"

	"github.com/peald/peald/daemon"
)

// TestHistoryDisabled expects a warning at startup, and at reloads only where
// the setting changes.
func TestHistoryDisabled(t *testing.T) {
	t.Parallel()

	const warning = `level=WARN msg="history disabled" setting=history.max_events`

	without := func(cfg *daemon.Config) { cfg.History.MaxEvents = 0 }

	r := startReloadable(t, daemon.Options{}, without)
	if said := r.log.Take(); strings.Count(said, warning) != 1 {
		t.Errorf("the log says\n%s\nwant once %s", said, warning)
	}

	if said := r.reload(t, func(cfg *daemon.Config) { cfg.SSE.Retry *= 2 }); strings.Contains(said, "history disabled") {
		t.Errorf("after a reload of another setting, the log says\n%s", said)
	}

	if said := r.reload(t, func(cfg *daemon.Config) { cfg.History.MaxEvents = 1 }); strings.Contains(said, "history disabled") {
		t.Errorf("with a history, the log says\n%s", said)
	}

	if said := r.reload(t, without); strings.Count(said, warning) != 1 {
		t.Errorf("after a reload that disables the history, the log says\n%s", said)
	}
}
