package control

import (
	"context"
	"fmt"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// watchLocal is like WatchConnections, but covers only this daemon's streams.
func (s *Service) watchLocal(ctx context.Context, req *pealv1.WatchConnectionsRequest, send func(*pealv1.WatchConnectionsResponse) error) error {
	watch, err := s.startWatch(ctx, req)
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
		changes, err := watch.Take()
		if err := s.sendChanges(ctx, changes, send); err != nil {
			return err
		}

		if err != nil {
			return err
		}

		select {
		case <-s.draining:
			return broker.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		case <-watch.C:
		}
	}
}

// startWatch starts a watch of all streams, or of those that subscribe to a topic.
func (s *Service) startWatch(ctx context.Context, req *pealv1.WatchConnectionsRequest) (*broker.Watch, error) {
	if topic := req.GetTopic(); topic != "" {
		return s.broker.WatchTopic(ctx, topic)
	}

	return s.broker.Watch()
}

// sendChanges sends changes, unless the call must end before all are sent.
func (s *Service) sendChanges(ctx context.Context, changes []broker.Connection, send func(*pealv1.WatchConnectionsResponse) error) error {
	for _, c := range changes {
		select {
		case <-s.draining:
			return broker.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		default:
		}

		if err := send(changeEvent(c)); err != nil {
			return fmt.Errorf("sending a change for a watch: %w", err)
		}
	}

	return nil
}
