package control

import (
	"context"
	"fmt"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// watchLocal is like WatchConnections, but covers only this daemon's streams.
func (s *Service) watchLocal(ctx context.Context, send func(*pealv1.WatchConnectionsResponse) error) error {
	watch, err := s.broker.Watch()
	if err != nil {
		return fmt.Errorf("starting a watch: %w", err)
	}
	defer watch.Close()

	for _, u := range watch.Present {
		if err := send(presentEvent(userMessage(u))); err != nil {
			return fmt.Errorf("sending the snapshot for a watch: %w", err)
		}
	}

	if err := send(snapshotCompleteEvent(toInt32(watch.Anonymous))); err != nil {
		return fmt.Errorf("sending the snapshot for a watch: %w", err)
	}

	for {
		select {
		case <-s.draining:
			return broker.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		case c, ok := <-watch.C:
			if !ok {
				return watch.Err()
			}

			if err := send(changeEvent(c)); err != nil {
				return fmt.Errorf("sending a change for a watch: %w", err)
			}
		}
	}
}
