package main

import (
	"io"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"

	"github.com/peald/peald/internal/bench"
)

// bars shows the progress of a measurement.
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
	// Rendering stops by itself once both trackers are done. A call to Stop before
	// rendering has started would have no effect.
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

// advance updates a tracker that has started and isn't done. Setting the value of
// a finished tracker would restart its clock.
func advance(t *progress.Tracker, done, total int64) {
	t.UpdateTotal(total)
	if done == 0 || t.IsDone() {
		return
	}
	t.SetValue(done)
	if done == total {
		t.MarkAsDone()
	}
}

// stop marks unfinished bars as failed and waits for the last rendering.
func (b *bars) stop() {
	for _, t := range []*progress.Tracker{b.opening, b.delivering} {
		if !t.IsDone() {
			t.MarkAsErrored()
		}
	}
	b.rendering.Wait()
}
