package main

import (
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
)

// messageFlags holds the options that every kind of message has besides its
// data.
type messageFlags struct {
	event          string
	idempotencyKey string
	conflateKey    string
	ttl            optionalDuration
	retain         bool
}

// add defines the flags on cmd. An event without a type gets defaultType.
func (m *messageFlags) add(cmd *cobra.Command, defaultType string) {
	flags := cmd.Flags()
	flags.StringVar(&m.event, "event", "", fmt.Sprintf("event `type`, for addEventListener (default %q)", defaultType))
	flags.Func("idempotency-key", "send nothing if the same message was already sent with this `key`", notEmpty("key", &m.idempotencyKey))
	flags.Func("conflate-key", "in the queue of a slow consumer, replace an earlier event that has the same `key`", notEmpty("key", &m.conflateKey))
	flags.Var(&m.ttl, "ttl", "how long the event may be replayed and is retained (default: as long as the daemon keeps it)")
	flags.BoolVar(&m.retain, "retain", false, "keep the event as the latest value, for streams that start later")
}

// notEmpty returns a flag setter that rejects an empty value. The daemon treats an
// empty key or user as none, but on a command line it usually comes from an unset
// shell variable. what names the value in errors.
func notEmpty(what string, target *string) func(string) error {
	return func(value string) error {
		if value == "" {
			return fmt.Errorf("empty %s; omit the flag to send none", what)
		}
		*target = value
		return nil
	}
}

func (m *messageFlags) check() error {
	for _, flag := range []struct{ name, text string }{
		{"--event", m.event}, {"--idempotency-key", m.idempotencyKey}, {"--conflate-key", m.conflateKey},
	} {
		if err := checkUTF8(flag.name, flag.text); err != nil {
			return err
		}
	}
	return nil
}

// optionalDuration is a duration flag; value is nil if the flag isn't set.
type optionalDuration struct{ value *durationpb.Duration }

// String implements [pflag.Value].
func (d *optionalDuration) String() string {
	if d.value == nil {
		return ""
	}
	return d.value.AsDuration().String()
}

// Set implements [pflag.Value].
func (d *optionalDuration) Set(text string) error {
	duration, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("invalid duration %q; want a number with a unit, such as 30s or 1h", text)
	}
	d.value = durationpb.New(duration)
	return nil
}

// Type implements [pflag.Value].
func (*optionalDuration) Type() string { return "duration" }

// data returns the message data for a DATA argument, which may be - for standard
// input.
func (s *session) data(arg string) (string, error) {
	if arg != "-" {
		return arg, checkUTF8("DATA", arg)
	}

	// This exceeds the limit of any daemon. A daemon with a lower limit rejects the
	// message itself.
	const limit = 4 << 20
	text, err := io.ReadAll(io.LimitReader(s.stdin, limit+1))
	if err != nil {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	if len(text) > limit {
		return "", fmt.Errorf("standard input: longer than %d bytes, the limit for a message", limit)
	}

	return string(text), checkUTF8("standard input", string(text))
}

// checkUTF8 returns an error that names the argument if text is not valid UTF-8.
// Protobuf rejects such text too, but without naming the field.
func checkUTF8(name, text string) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("%s is not valid UTF-8", name)
	}
	return nil
}
