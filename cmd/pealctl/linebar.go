package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
)

// lineBar shows how much of a file has been published. A nil lineBar shows nothing.
type lineBar struct {
	writer    progress.Writer
	tracker   *progress.Tracker
	bytes     bool // the tracker counts bytes instead of messages
	rendering sync.WaitGroup
}

// startLineBar starts a bar for a file of the given size; 0 if that is unknown.
func startLineBar(w io.Writer, size int64) *lineBar {
	b := &lineBar{writer: progress.NewWriter(), tracker: &progress.Tracker{Message: "publishing", Total: size}, bytes: size > 0}
	if b.bytes {
		b.tracker.Units = progress.UnitsBytes
	}
	b.writer.SetOutputWriter(w)
	b.writer.SetUpdateFrequency(100 * time.Millisecond)
	b.writer.SetAutoStop(true)
	b.writer.AppendTracker(b.tracker)
	b.rendering.Go(b.writer.Render)
	return b
}

// advance records that a line with the given number of bytes has a result.
func (b *lineBar) advance(bytes int) {
	switch {
	case b == nil:
	case b.bytes:
		b.tracker.Increment(int64(bytes))
	default:
		b.tracker.Increment(1)
	}
}

// log prints a line on w, or above the bar if there is one.
func (b *lineBar) log(w io.Writer, text string) {
	if b == nil {
		fmt.Fprintln(w, text)
		return
	}
	b.writer.Log("%s", text)
}

// stop ends the bar and waits for the last rendering.
func (b *lineBar) stop(complete bool) {
	if b == nil {
		return
	}
	if complete {
		b.tracker.MarkAsDone()
	} else {
		b.tracker.MarkAsErrored()
	}
	b.rendering.Wait()
}
