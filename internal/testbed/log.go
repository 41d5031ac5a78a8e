package testbed

import (
	"strings"
	"sync"
)

// Log collects the output of a daemon or a process, and can be read at any time. It is
// safe for concurrent use. The zero value is empty.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.text.Write(p)
}

// String returns everything that was written since the last call to Take.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.text.String()
}

// Take returns and clears what was written since the last call.
func (l *Log) Take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()

	return l.text.String()
}

// With returns the lines that contain all parts.
func (l *Log) With(parts ...string) (found []string) {
	for line := range strings.Lines(l.String()) {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}

		if all {
			found = append(found, line)
		}
	}

	return found
}
