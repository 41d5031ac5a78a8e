package tlsrecord_test

import (
	"errors"
	"testing"

	"github.com/peald/peald/internal/tlsrecord"
)

// wantAlert fails the test unless err is an AlertError with this alert.
func wantAlert(tb testing.TB, err error, want tlsrecord.Alert) {
	tb.Helper()

	alert, ok := errors.AsType[*tlsrecord.AlertError](err)
	if !ok || alert.Alert != want {
		tb.Errorf("got %v, want the alert %q", err, want)
	}
}
