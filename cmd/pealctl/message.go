package main

import (
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

func eventFlag(cmd *cobra.Command, event *string, otherwise string) {
	cmd.Flags().StringVar(event, "event", "", fmt.Sprintf("the event's `type`, for addEventListener (default %q)", otherwise))
}

// data is what a DATA argument stands for.
func (s *session) data(arg string) (string, error) {
	if arg != "-" {
		return arg, wellFormed("DATA", arg)
	}
	// More than any daemon takes, and still a bound: what is too long for this
	// one it says itself.
	const most = 4 << 20
	text, err := io.ReadAll(io.LimitReader(s.stdin, most+1))
	if err != nil {
		return "", fmt.Errorf("read the standard input: %w", err)
	}
	if len(text) > most {
		return "", fmt.Errorf("the standard input holds more than %d bytes, which is more than a message can", most)
	}
	return string(text), wellFormed("the standard input", string(text))
}

// wellFormed is asked before protobuf is, whose complaint names no field.
func wellFormed(name, text string) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("%s is not valid UTF-8", name)
	}
	return nil
}
