package bench

import (
	"context"
	"errors"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// overdue is a context whose deadline has passed, but whose timer hasn't fired.
type overdue struct{ context.Context }

func (overdue) Deadline() (time.Time, bool) { return time.Now().Add(-time.Second), true }

// TestCutWhileConnecting checks that a connection that is cut while it is being
// established doesn't count as rejected by the server.
func TestCutWhileConnecting(t *testing.T) {
	server := httptest.NewServer(nil)
	defer server.Close()

	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}

	err = newResumable(address, "", "").read(overdue{t.Context()}, 1, nil, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read returns %v, want %v", err, context.DeadlineExceeded)
	}
}
