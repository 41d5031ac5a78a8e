package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// screen draws frames: on a terminal each in the place of the one before,
// elsewhere one after the other.
type screen struct {
	out      io.Writer
	terminal *os.File // out, or nil if it is none
	lines    int      // that the frame on the terminal has
}

func newScreen(out io.Writer) *screen {
	return &screen{out: out, terminal: terminal(out)}
}

// width is how long a line of a frame may be, 0 where there is no limit. On a
// terminal a longer one would wrap, and the next frame miss its place.
func (s *screen) width() int {
	if s.terminal == nil {
		return 0
	}
	w, _, err := term.GetSize(int(s.terminal.Fd()))
	if err != nil {
		return 0
	}
	return w
}

func (s *screen) draw(frame string) error {
	lines := strings.Split(frame, "\n")
	if s.terminal == nil {
		_, err := fmt.Fprintf(s.out, "%s\n\n", frame)
		return err
	}
	var b strings.Builder
	if s.lines > 0 {
		b.WriteString(text.CursorUp.Sprintn(s.lines))
	}
	for _, line := range lines {
		b.WriteString(line + text.EraseLine.Sprint() + "\n")
	}
	// Lines of a longer frame before are emptied, and stay part of this one.
	for i := len(lines); i < s.lines; i++ {
		b.WriteString(text.EraseLine.Sprint() + "\n")
	}
	s.lines = max(s.lines, len(lines))
	_, err := io.WriteString(s.out, b.String())
	return err
}
