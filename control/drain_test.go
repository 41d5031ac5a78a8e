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

// startDraining is a control plane whose Drain ends n streams over a second.
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
			t.Errorf("the drain ended with %v", err)
		}
	})
	waitUntil(t, func() bool { return b.Stats().Total.Connections == n })
	return p
}

func TestDrainTellsHowFarItIs(t *testing.T) {
	p := startDraining(t, 200)
	reports, err := p.Drain(t.Context(), &pealv1.DrainRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var told []int32
	for {
		report, err := reports.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, report.GetConnections())
	}
	if len(told) < 3 || told[0] == 0 || told[len(told)-1] != 0 {
		t.Errorf("told of %v streams", told)
	}
}

func TestDrainOverREST(t *testing.T) {
	p := startDraining(t, 1)
	got := p.do(t, "POST", "/v1/drain", "")
	if got.StatusCode != http.StatusOK || !strings.HasSuffix(got.body, `{"result":{"connections":0}}`+"\n") {
		t.Errorf("%s: %s", got.Status, got.body)
	}
}

func TestDrainOfWhatCanNotBeEnded(t *testing.T) {
	service := control.New(control.Config{}, &fake{}, nil)
	defer service.Close()
	if err := service.Drain(&pealv1.DrainRequest{}, nil); err == nil {
		t.Error("a daemon that can't be ended by a call is")
	}
}
