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
		opening:    &progress.Tracker{Message: "opening streams", AutoStopDisabled: true},
		delivering: &progress.Tracker{Message: "delivering", AutoStopDisabled: true, DeferStart: true},
	}
	writer := progress.NewWriter()
	writer.SetOutputWriter(w)
	writer.SetUpdateFrequency(100 * time.Millisecond)
	// Rendering ends by itself when both are done: its Stop is lost if it comes
	// before the rendering has begun.
	writer.SetAutoStop(true)
	writer.Style().Options.KeepTrackersTogether = true
	writer.AppendTrackers([]*progress.Tracker{b.opening, b.delivering})
	b.rendering.Go(writer.Render)
	return b
}

func (b *bars) show(p bench.Progress) {
	b.opening.UpdateTotal(int64(p.Streams))
	b.delivering.UpdateTotal(p.Expected)
	b.opening.SetValue(int64(p.Opened))
	if p.Opened == p.Streams {
		b.opening.MarkAsDone()
	}
	if p.Delivered > 0 {
		b.delivering.SetValue(p.Delivered)
	}
}

func (b *bars) stop() {
	for _, t := range []*progress.Tracker{b.opening, b.delivering} {
		if t.IsDone() {
			continue
		}
		if t.PercentDone() >= 100 {
			t.MarkAsDone()
		} else {
			t.MarkAsErrored()
		}
	}
	b.rendering.Wait()
}
