package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// storeRejected sends a rejected message to the dead-letter subject, and waits until it is
// stored.
func (s *session) storeRejected(ctx context.Context, d *delivery, reason error) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()

	letter := s.deadLetter(d, reason)
	// The stream's window for duplicates covers a repetition after a crash.
	id := jetstream.WithMsgID("peald-" + s.cfg.Stream + "-" + offset(*d))
	_, err := s.js.PublishMsg(ctx, letter, id)
	if errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum) {
		s.options.Logger.Warn("dead-letter message stored without its data", "subject", letter.Subject, "bytes", len(letter.Data))
		letter.Header.Set("Peald-Data-Bytes", strconv.Itoa(len(letter.Data)))
		letter.Data = nil
		_, err = s.js.PublishMsg(ctx, letter, id)
	}
	if err != nil {
		return s.denied.explain(fmt.Errorf("dead-letter subject %q: %w", letter.Subject, err))
	}

	return nil
}

// deadLetter returns the message for the dead-letter subject.
func (s *session) deadLetter(d *delivery, reason error) *nats.Msg {
	letter := nats.NewMsg(s.cfg.DeadLetter)
	letter.Data = d.message.Data()

	// Headers such as Nats-Expected-Stream and Nats-TTL would make the server treat the
	// message differently.
	for name, values := range d.message.Headers() {
		if !strings.HasPrefix(name, "Nats-") {
			letter.Header[name] = values
		}
	}
	letter.Header.Set("Peald-Source", s.options.Name)
	letter.Header.Set("Peald-Error", reason.Error())
	letter.Header.Set("Peald-Stream", s.cfg.Stream)
	letter.Header.Set("Peald-Subject", d.message.Subject())
	letter.Header.Set("Peald-Sequence", strconv.FormatUint(d.stream, 10))

	return letter
}
