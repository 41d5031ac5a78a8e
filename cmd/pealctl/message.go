package main

import (
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
)

// messageFlags are what can be said of any message besides its data.
type messageFlags struct {
	event          string
	idempotencyKey string
	conflateKey    string
	ttl            lifetime
}

// add gives cmd the flags; otherwise is the type of an event without one.
func (m *messageFlags) add(cmd *cobra.Command, otherwise string) {
	flags := cmd.Flags()
	flags.StringVar(&m.event, "event", "", fmt.Sprintf("the event's `type`, for addEventListener (default %q)", otherwise))
	flags.Func("idempotency-key", "send nothing if the same message was sent with this `key` before", notEmpty(&m.idempotencyKey))
	flags.Func("conflate-key", "the `key` of what the event is the newest state of, for clients that can't keep up", notEmpty(&m.conflateKey))
	flags.Var(&m.ttl, "ttl", "how long the event may be replayed (default as long as the daemon keeps it)")
}

// notEmpty sets a text. An empty key is none to the daemon, and what a shell
// makes of a variable that isn't set: who gives one means to have it.
func notEmpty(text *string) func(string) error {
	return func(given string) error {
		if given == "" {
			return errors.New("it is empty; leave the flag out for no key")
		}
		*text = given
		return nil
	}
}

func (m *messageFlags) check() error {
	for _, flag := range []struct{ name, text string }{
		{"--event", m.event}, {"--idempotency-key", m.idempotencyKey}, {"--conflate-key", m.conflateKey},
	} {
		if err := wellFormed(flag.name, flag.text); err != nil {
			return err
		}
	}
	return nil
}

// lifetime is a duration flag that knows whether it was given.
type lifetime struct{ lasts *durationpb.Duration }

// String implements [pflag.Value].
func (l *lifetime) String() string {
	if l.lasts == nil {
		return ""
	}
	return l.lasts.AsDuration().String()
}

// Set implements [pflag.Value].
func (l *lifetime) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is no duration like 30s or 1h", text)
	}
	l.lasts = durationpb.New(d)
	return nil
}

// Type implements [pflag.Value].
func (*lifetime) Type() string { return "duration" }

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
