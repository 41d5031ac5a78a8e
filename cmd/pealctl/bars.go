package main

import (
	"io"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"

	"github.com/peald/peald/internal/bench"
)

// bars show how far a measurement has come.
type bars struct {
	opening, delivering *progress.Tracker
	rendering           sync.WaitGroup
}

func startBars(w io.Writer) *bars {
	b := &bars{
		opening:    &progress.Tracker{Message: "opening streams", AutoStopDisabled: true, Index: 1},
		delivering: &progress.Tracker{Message: "delivering", AutoStopDisabled: true, DeferStart: true, Index: 2},
	}

	writer := progress.NewWriter()
	writer.SetOutputWriter(w)
	writer.SetUpdateFrequency(100 * time.Millisecond)
	// Rendering ends by itself when both are done: its Stop is lost if it comes
	// before the rendering has begun.
	writer.SetAutoStop(true)
	writer.SetSortBy(progress.SortByIndex)
	writer.Style().Options.KeepTrackersTogether = true
	writer.AppendTrackers([]*progress.Tracker{b.opening, b.delivering})
	b.rendering.Go(writer.Render)
	return b
}

func (b *bars) show(p bench.Progress) {
	advance(b.opening, int64(p.Opened), int64(p.Streams))
	advance(b.delivering, p.Delivered, p.Expected)
}

// advance leaves alone what is done, whose clock would go on otherwise, and
// what hasn't begun.
func advance(t *progress.Tracker, done, of int64) {
	t.UpdateTotal(of)
	if done == 0 || t.IsDone() {
		return
	}
	t.SetValue(done)
	if done == of {
		t.MarkAsDone()
	}
}

// stop leaves the bars as they are.
func (b *bars) stop() {
	for _, t := range []*progress.Tracker{b.opening, b.delivering} {
		if !t.IsDone() {
			t.MarkAsErrored()
		}
	}
	b.rendering.Wait()
}
