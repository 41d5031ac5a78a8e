package bench

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
)

// TestCutWhileConnecting checks that a connection whose dialer timed out shortly
// before its context counts as cut, and not as rejected by the server.
func TestCutWhileConnecting(t *testing.T) {
	timeout := &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
	if err := causeOf(t.Context(), timeout); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the cause of %v is %v, want %v", timeout, err, context.DeadlineExceeded)
	}
}
