// Package logqueue puts a bounded queue between a program that logs and the
// terminal, pipe or file that its log goes to. Whoever logs never waits for the
// reader of the log: a pipe whose reader stalls fills the queue, and lines that
// find it full are lost, as are lines whose write fails because the reader is
// gone or the disk is full. Lost lines are counted, and reported in the log as
// soon as it takes lines again.
//
// When the queue is full the newest lines are lost: the oldest ones are usually
// those that show what went wrong first.
//
// A process that is killed, or ends in a panic, loses what is still queued. As
// long as the log takes lines that is what was logged in the last microseconds.
package logqueue

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// What a queue holds at most, the lines being written included. The memory is
// allocated only while lines wait.
const (
	MaxLines = 16 << 10
	MaxBytes = 4 << 20
)

// reportEvery is the time between two reports of lost lines to a log that doesn't
// take lines, while there is nothing else to write to it.
const reportEvery = time.Second

// keptBytes is the largest buffer that is kept for the next lines.
const keptBytes = 64 << 10

// Queue is an [io.Writer] whose Write never waits. Its methods may be called
// concurrently.
type Queue struct {
	out    output
	report atomic.Pointer[func(lost int64) []byte]
	lost   atomic.Int64
	wake   chan struct{} // has a token when pending, dropped or closed was set
	done   chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	pending lines
	writing lines // taken by the goroutine and not yet written
	dropped int64 // lines after those pending that found the queue full
	closed  bool
}

// lines is a text of whole lines.
type lines struct {
	text  []byte
	count int
}

// New returns a queue in front of w and starts the goroutine that writes to w.
// Close must be called.
func New(w io.Writer) *Queue {
	q := &Queue{
		out:  output{w: w},
		wake: make(chan struct{}, 1),
		done: make(chan struct{}),
	}

	go q.run()

	return q
}

// Report sets how the loss of lines is reported: by what line returns, which is
// called by the queue's own goroutine. Without it the loss is only counted.
func (q *Queue) Report(line func(lost int64) []byte) { q.report.Store(&line) }

// Lost returns how many lines have been lost so far.
func (q *Queue) Lost() int64 { return q.lost.Load() }

// Write queues p, which is one or more whole lines, or drops it. It always
// succeeds.
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

	// Once a line was dropped, so are all others until the goroutine has taken
	// those before it: the report then stands where the lost lines would.
	if q.closed || q.dropped > 0 || !q.hasRoom(len(p)+1, count) {
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

// hasRoom reports whether that much more can be queued. The caller has q.mu.
func (q *Queue) hasRoom(size, count int) bool {
	return len(q.pending.text)+len(q.writing.text)+size <= MaxBytes && q.pending.count+q.writing.count+count <= MaxLines
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Close writes what is queued, waits for that at most the given time, and
// reports whether everything is written. Lines that come later are lost.
//
// A write that the reader of the log blocks can't be interrupted: then the
// queue's goroutine outlives Close, and ends with the process.
func (q *Queue) Close(within time.Duration) bool {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()

	timeout := time.NewTimer(within)
	defer timeout.Stop()

	select {
	case <-q.done:
		return true
	case <-timeout.C:
		return false
	}
}

// run writes what is queued until the queue is closed and empty.
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
			continue // more may have come since
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
// and whether none come later. The lines taken before count as written.
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

// reportLoss reports whether the line about lost lines could be written.
func (q *Queue) reportLoss(lost int64) bool {
	line := q.report.Load()

	return line == nil || q.out.write((*line)(lost)) == 0
}
