package logqueue_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/peald/peald/internal/logqueue"
	"github.com/peald/peald/internal/testbed"
)

// patience is the time limit for operations that usually take milliseconds.
const patience = 30 * time.Second

func lossLine(lost int64) []byte { return fmt.Appendf(nil, "lost %d\n", lost) }

// start returns a queue that reports lost lines. It is closed after the test.
func start(t *testing.T, w io.Writer) *logqueue.Queue {
	t.Helper()

	q := logqueue.New(w)
	q.Report(lossLine)
	t.Cleanup(func() { q.Close(patience) })

	return q
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()

	if !testbed.Eventually(patience, is) {
		t.Fatalf("timeout waiting for %s", what)
	}
}

// valve is a file whose writes block while it is shut, and fail with err if set.
type valve struct {
	testbed.Log

	mu       sync.Mutex
	blocked  bool // a Write is blocked
	shut     *sync.Cond
	isShut   bool
	err      error
	partOnly int // number of bytes that a failing Write writes
}

func newValve() *valve {
	v := &valve{}
	v.shut = sync.NewCond(&v.mu)

	return v
}

func (v *valve) set(shut bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()

	v.isShut, v.err = shut, err
	v.shut.Broadcast()
}

func (v *valve) isBlocked() bool {
	v.mu.Lock()
	defer v.mu.Unlock()

	return v.blocked
}

// Write implements [io.Writer].
func (v *valve) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()

	for v.isShut {
		v.blocked = true
		v.shut.Wait()
	}

	v.blocked = false

	if v.err != nil {
		n, _ := v.Log.Write(p[:min(v.partOnly, len(p))])

		return n, v.err
	}

	return v.Log.Write(p)
}

func TestLinesAreWrittenInOrder(t *testing.T) {
	t.Parallel()

	var out bytes.Buffer

	q := logqueue.New(&out)

	var want strings.Builder

	for i := range 10_000 {
		line := fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", i%100))
		want.WriteString(line)

		if n, err := q.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("Write returns %d, %v", n, err)
		}
	}

	_, _ = q.Write([]byte("no newline"))

	want.WriteString("no newline\n")

	if !q.Close(patience) {
		t.Fatal("not everything was written")
	}

	if out.String() != want.String() {
		t.Errorf("%d bytes were written, want %d", out.Len(), want.Len())
	}

	if n := q.Lost(); n != 0 {
		t.Errorf("%d lines were lost", n)
	}
}

// TestStalledReader checks that lost lines are reported in their place.
func TestStalledReader(t *testing.T) {
	t.Parallel()

	out := newValve()
	out.set(true, nil)

	q := start(t, out)
	_, _ = q.Write([]byte("first\n"))

	await(t, "a blocked write", out.isBlocked)

	const lines = 3 * logqueue.MaxLines
	for i := range lines {
		fmt.Fprintf(q, "line %d\n", i)
	}

	const kept = logqueue.MaxLines - 1 // in addition to the first
	if n := q.Lost(); n != lines-kept {
		t.Errorf("%d lines were lost, want %d", n, lines-kept)
	}

	out.set(false, nil)
	await(t, "the report", func() bool { return strings.Contains(out.String(), "lost ") })
	_, _ = q.Write([]byte("after\n"))
	await(t, "a line after it", func() bool { return strings.HasSuffix(out.String(), "after\n") })

	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{"first"}

	for i := range kept {
		want = append(want, fmt.Sprintf("line %d", i))
	}

	want = append(want, fmt.Sprintf("lost %d", lines-kept), "after")

	if !slices.Equal(got, want) {
		t.Errorf("the log has %d lines, want %d", len(got), len(want))
	}
}

func TestBytesAreBounded(t *testing.T) {
	t.Parallel()

	out := newValve()
	out.set(true, nil)
	t.Cleanup(func() { out.set(false, nil) })

	q := logqueue.New(out)
	line := []byte(strings.Repeat("x", logqueue.MaxBytes/8-1) + "\n")

	for range 20 {
		_, _ = q.Write(line)
	}

	if n := q.Lost(); n != 13 { // only 7 fit, because each needs room for a missing newline
		t.Errorf("%d lines were lost, want 13", n)
	}
}

// TestWritesSucceedAgain checks that lost lines are reported even if no further
// line is written.
func TestWritesSucceedAgain(t *testing.T) {
	t.Parallel()

	for name, failure := range map[string]error{"closed": syscall.EPIPE, "disk full": syscall.ENOSPC} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			out := newValve()
			out.set(false, &os.PathError{Op: "write", Path: "log", Err: failure})

			q := start(t, out)

			for range 7 {
				_, _ = q.Write([]byte("a line\n"))
			}

			await(t, "7 lost lines", func() bool { return q.Lost() == 7 })
			out.set(false, nil)
			await(t, "the report", func() bool { return out.String() == "lost 7\n" })
			_, _ = q.Write([]byte("after\n"))
			await(t, "the line after", func() bool { return out.String() == "lost 7\nafter\n" })
		})
	}
}

// TestTornLine checks that the line after a partially written one starts on a new
// line.
func TestTornLine(t *testing.T) {
	t.Parallel()

	out := newValve()
	out.partOnly = 3
	out.set(false, syscall.ENOSPC)

	q := logqueue.New(out)
	_, _ = q.Write([]byte("a line\n"))

	await(t, "a lost line", func() bool { return q.Lost() == 1 })
	out.set(false, nil)
	_, _ = q.Write([]byte("after\n"))

	if !q.Close(patience) || out.String() != "a l\nafter\n" {
		t.Errorf("the log is %q", out.String())
	}
}

// TestNonBlockingPipe checks that nothing is lost when a descriptor that another
// process has made non-blocking is full.
func TestNonBlockingPipe(t *testing.T) {
	t.Parallel()

	out := newValve()
	out.partOnly = 2
	out.set(false, syscall.EAGAIN)

	q := logqueue.New(out)
	_, _ = q.Write([]byte("a long line\n"))

	await(t, "a partial write", func() bool { return len(out.String()) >= 4 })
	out.set(false, nil)

	if !q.Close(patience) || out.String() != "a long line\n" || q.Lost() != 0 {
		t.Errorf("the log is %q, %d lost", out.String(), q.Lost())
	}
}

func TestCloseTimeout(t *testing.T) {
	t.Parallel()

	out := newValve()
	out.set(true, nil)

	q := logqueue.New(out)
	_, _ = q.Write([]byte("a line\n"))

	await(t, "a blocked write", out.isBlocked)

	if q.Close(time.Millisecond) {
		t.Error("Close reports that everything is written, but nothing is")
	}

	if _, err := q.Write([]byte("late\n")); err != nil || q.Lost() != 1 {
		t.Errorf("Write after Close: %v, %d lost", err, q.Lost())
	}

	out.set(false, nil)

	if !q.Close(patience) || out.String() != "a line\n" {
		t.Errorf("the log is %q", out.String())
	}
}

// TestEveryLineIsWrittenOrCounted writes from many goroutines while some writes
// fail.
func TestEveryLineIsWrittenOrCounted(t *testing.T) {
	t.Parallel()

	out := &flaky{}
	q := logqueue.New(out)
	q.Report(func(lost int64) []byte {
		out.report = lost

		return []byte("report\n")
	})

	const writers, lines = 8, 2000

	var writing sync.WaitGroup

	for w := range writers {
		writing.Go(func() {
			for i := range lines {
				fmt.Fprintf(q, "%d %d\n", w, i)
			}
		})
	}

	writing.Wait()

	if !q.Close(patience) {
		t.Fatal("not everything was written")
	}

	if got := out.lines + q.Lost(); got != writers*lines {
		t.Errorf("%d lines were written and %d lost, want %d in total", out.lines, q.Lost(), writers*lines)
	}

	if out.reported > q.Lost() {
		t.Errorf("%d lines were reported as lost, want %d", out.reported, q.Lost())
	}
}

// flaky fails every third Write. It must be used by one goroutine at a time.
type flaky struct {
	writes                  int
	lines, report, reported int64
}

func (f *flaky) Write(p []byte) (int, error) {
	if f.writes++; f.writes%3 == 0 {
		return 0, errors.New("not now")
	}

	if string(p) == "report\n" {
		f.reported += f.report
	} else {
		f.lines += int64(bytes.Count(p, []byte{'\n'}))
	}

	return len(p), nil
}
