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
	width, _ := s.size()
	return width
}

// size is how much room there is, in columns and lines; 0 is no limit.
func (s *screen) size() (width, height int) {
	if s.terminal == nil {
		return 0, 0
	}
	width, height, err := term.GetSize(int(s.terminal.Fd()))
	if err != nil {
		return 0, 0
	}
	return width, height
}

func (s *screen) draw(frame string) error {
	lines := strings.Split(frame, "\n")
	if s.terminal == nil {
		_, err := fmt.Fprintf(s.out, "%s\n\n", frame)
		return err
	}

	width, height := s.size()
	lines = fitting(lines, width, height)
	var b strings.Builder

	if s.lines > 0 {
		b.WriteString(text.CursorUp.Sprintn(s.lines))
	}

	for _, line := range lines {
		b.WriteString(line + text.EraseLine.Sprint() + "\n")
	}

	// Lines of a longer frame before are emptied, and stay part of this one.
	for i := len(lines); i < s.lines && (height < 2 || i < height-1); i++ {
		b.WriteString(text.EraseLine.Sprint() + "\n")
	}

	s.lines = max(s.lines, len(lines))
	if height > 1 {
		s.lines = min(s.lines, height-1) // of a terminal that was made smaller
	}

	_, err := io.WriteString(s.out, b.String())
	return err
}

// fitting is what of lines a terminal has room for: more would scroll, and the
// next frame miss its place. The cursor takes a line too.
func fitting(lines []string, width, height int) []string {
	if height > 1 {
		lines = lines[:min(len(lines), height-1)]
	}
	if width == 0 {
		return lines
	}
	cut := make([]string, len(lines))
	for i, line := range lines {
		cut[i] = text.Trim(line, width)
	}
	return cut
}
