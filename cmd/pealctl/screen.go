package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// screen draws frames. On a terminal each frame replaces the one before it;
// elsewhere frames follow one another.
type screen struct {
	out      io.Writer
	terminal *os.File // out, or nil if out isn't a terminal
	lines    int      // height of the frame on the terminal
}

func newScreen(out io.Writer) *screen {
	return &screen{out: out, terminal: terminal(out)}
}

// width returns the maximum length of a line, or 0 for no limit. On a terminal, a
// longer line would wrap, and the next frame would start on the wrong line.
func (s *screen) width() int {
	width, _ := s.size()
	return width
}

// size returns the size of the terminal in columns and lines; 0 means no limit.
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

	// Clear the remaining lines of a longer frame. They stay part of this frame.
	for i := len(lines); i < s.lines && (height < 2 || i < height-1); i++ {
		b.WriteString(text.EraseLine.Sprint() + "\n")
	}

	s.lines = max(s.lines, len(lines))
	if height > 1 {
		s.lines = min(s.lines, height-1) // the terminal may have been resized
	}

	_, err := io.WriteString(s.out, b.String())
	return err
}

// fitting returns the lines that fit on the terminal. More lines would scroll, and
// the next frame would start on the wrong line. The cursor takes up one line.
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
