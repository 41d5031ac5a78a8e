package control_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// startDraining returns a control plane whose Drain closes n streams within a
// second.
func startDraining(t *testing.T, n int) *plane {
	t.Helper()
	b := startBroker(t)
	for range n {
		stream(t, b, "alice")
	}
	done := make(chan error, 1)
	p := start(t, control.Config{Drain: func() { go func() { done <- b.Drain(context.Background(), time.Second) }() }}, b, nil)
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Errorf("the drain failed: %v", err)
		}
	})
	eventually(t, func() bool { return b.Stats().Total.Connections == n })
	return p
}

func TestDrainReportsProgress(t *testing.T) {
	p := startDraining(t, 200)
	reports, err := p.Drain(t.Context(), &pealv1.DrainRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var counts []int32
	for {
		report, err := reports.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		counts = append(counts, report.GetConnections())
	}
	if len(counts) < 3 || counts[0] == 0 || counts[len(counts)-1] != 0 {
		t.Errorf("reported %v open streams, want at least three counts down to 0", counts)
	}
}

func TestDrainOverREST(t *testing.T) {
	p := startDraining(t, 1)
	got := p.do(t, "POST", "/v1/drain", "")
	if got.StatusCode != http.StatusOK || !strings.HasSuffix(got.body, `{"result":{"connections":0}}`+"\n") {
		t.Errorf("%s: %s", got.Status, got.body)
	}
}

func TestDrainIsRejectedIfDisabled(t *testing.T) {
	service := control.New(control.Config{}, &fakeBroker{}, nil)
	defer service.Close()
	if err := service.Drain(&pealv1.DrainRequest{}, nil); err == nil {
		t.Error("Drain succeeded")
	}
}
