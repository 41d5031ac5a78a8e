package pealdtest

import (
	"strings"
	"sync"
)

// Log is what a daemon or a process writes, to be read meanwhile. The zero value
// is empty.
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

// String is all that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.text.String()
}

// Take returns what was written since the last call.
func (l *Log) Take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()

	return l.text.String()
}

// With returns the lines that hold all parts.
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
