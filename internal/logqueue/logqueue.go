// Package logqueue puts a bounded queue between a program and the terminal, pipe
// or file that it logs to, so that logging never blocks. If the reader of a pipe
// stalls, the queue fills up and further lines are lost. Lines are also lost if a
// write fails because the reader has closed the pipe or the disk is full. Lost
// lines are counted, and reported in the log as soon as writes succeed again.
//
// When the queue is full, the newest lines are lost. The oldest ones usually show
// the cause of a problem.
//
// A process that is killed or panics loses the queued lines. Unless the log is
// blocked, those are the lines from the last few microseconds.
package logqueue

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of a queue, including the lines being written. Memory is allocated only
// while lines are queued.
const (
	MaxLines = 16 << 10
	MaxBytes = 4 << 20
)

// reportEvery is how often the queue tries to report lost lines while writes fail
// and nothing else is queued.
const reportEvery = time.Second

// keptBytes is the size up to which a buffer is reused.
const keptBytes = 64 << 10

// Queue is an [io.Writer] whose Write never blocks. Its methods are safe for
// concurrent use.
type Queue struct {
	out    output
	report atomic.Pointer[func(lost int64) []byte]
	lost   atomic.Int64
	wake   chan struct{} // holds a token after a change to pending, dropped or closed
	done   chan struct{} // closed when the goroutine has returned

	mu      sync.Mutex
	pending lines
	writing lines // taken by the goroutine, but not written yet
	dropped int64 // lines dropped after the pending ones
	closed  bool
}

// lines holds complete lines.
type lines struct {
	text  []byte
	count int
}

// New returns a queue for w and starts the goroutine that writes to w. The caller
// must call Close.
func New(w io.Writer) *Queue {
	q := &Queue{
		out:  output{w: w},
		wake: make(chan struct{}, 1),
		done: make(chan struct{}),
	}

	go q.run()

	return q
}

// Report sets the function that formats the log line about lost lines. The queue's
// goroutine calls it. Without it, lost lines are only counted.
func (q *Queue) Report(line func(lost int64) []byte) { q.report.Store(&line) }

// Lost returns how many lines have been lost so far.
func (q *Queue) Lost() int64 { return q.lost.Load() }

// Write queues p, which must consist of one or more complete lines, or drops it.
// It never returns an error.
func (q *Queue) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}

	count := countLines(p)
	if p[len(p)-1] != '\n' {
		count++
	}

	q.mu.Lock()
	defer q.mu.Unlock()

	// After a dropped line, drop all others until the goroutine has taken the
	// pending ones. This puts the report where the lost lines would be.
	if q.closed || q.dropped > 0 || !q.fits(len(p)+1, count) {
		q.lost.Add(int64(count))
		q.dropped += int64(count)
	} else {
		q.pending.text = append(q.pending.text, p...)
		if p[len(p)-1] != '\n' {
			q.pending.text = append(q.pending.text, '\n')
		}

		q.pending.count += count
	}

	q.signal()

	return len(p), nil
}

// fits reports whether this much more can be queued. The caller must hold q.mu.
func (q *Queue) fits(size, count int) bool {
	return len(q.pending.text)+len(q.writing.text)+size <= MaxBytes && q.pending.count+q.writing.count+count <= MaxLines
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Close waits until all queued lines are written, but no longer than timeout, and
// reports whether they were. Lines written after Close are lost.
//
// A blocked write can't be interrupted. In that case the queue's goroutine
// outlives Close.
func (q *Queue) Close(timeout time.Duration) bool {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()

	timer := time.NewTimer(timeout)
	defer timer.Stop()

	select {
	case <-q.done:
		return true
	case <-timer.C:
		return false
	}
}

// run writes queued lines until the queue is closed and empty.
func (q *Queue) run() {
	defer close(q.done)

	retry := time.NewTicker(reportEvery)
	defer retry.Stop()

	var unreported int64

	for {
		text, dropped, closed := q.take()

		if unreported > 0 && q.reportLoss(unreported) {
			unreported = 0
		}

		failed := q.out.write(text)
		q.lost.Add(failed)
		unreported += failed + dropped

		if dropped > 0 && failed == 0 && q.reportLoss(unreported) {
			unreported = 0
		}

		if closed && len(text) == 0 {
			return
		}

		if len(text) > 0 {
			continue // more lines may be queued by now
		}

		if unreported == 0 {
			<-q.wake
			continue
		}

		select {
		case <-q.wake:
		case <-retry.C:
		}
	}
}

// take returns the lines to write next, how many lines after them were dropped,
// and whether the queue is closed. Previously returned lines count as written.
func (q *Queue) take() (text []byte, dropped int64, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()

	spare := q.writing.text[:0]
	if cap(spare) > keptBytes {
		spare = nil
	}

	q.writing, q.pending = q.pending, lines{text: spare}
	dropped, q.dropped = q.dropped, 0

	return q.writing.text, dropped, q.closed
}

// reportLoss writes the line about lost lines and reports whether that succeeded.
func (q *Queue) reportLoss(lost int64) bool {
	line := q.report.Load()

	return line == nil || q.out.write((*line)(lost)) == 0
}
