package control

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// positionEvery is how often a tail is told its position, so that one for which
// nothing comes can still go on from there, and what lies between sees that it
// is in use.
const positionEvery = 15 * time.Second

// Tail implements pealv1.ControlServiceServer.
func (s *Service) Tail(req *pealv1.TailRequest, stream grpc.ServerStreamingServer[pealv1.TailResponse]) error {
	of, wrong := tailed(req)
	if wrong != nil {
		return invalid(*wrong)
	}
	tap, err := s.broker.Tap(of, req.GetLastEventId())
	if err != nil {
		return fmt.Errorf("beginning a tail: %w", err)
	}
	defer tap.Close()
	tell := func(told *pealv1.TailResponse) error {
		if err := stream.Send(told); err != nil {
			return fmt.Errorf("telling of messages: %w", err)
		}
		return nil
	}
	next := time.NewTicker(positionEvery)
	defer next.Stop()
	for due := true; ; {
		batch, err := tap.Take()
		if err != nil {
			return err
		}
		if err := tellBatch(batch, due, tell); err != nil {
			return err
		}
		due = false
		select {
		case <-s.draining:
			return broker.ErrClosed
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-next.C:
			due = true
		case <-tap.C:
		}
	}
}

// tailed is the audience that req asks for.
func tailed(req *pealv1.TailRequest) (broker.Audience, *fieldError) {
	switch of := req.GetAudience().(type) {
	case *pealv1.TailRequest_Everyone:
		if !of.Everyone {
			return broker.Audience{}, &fieldError{"everyone", "is false, only true is accepted"}
		}
		return broker.Everyone(), nil
	case *pealv1.TailRequest_UserId:
		return broker.ToUser(of.UserId), nil
	case *pealv1.TailRequest_Topic:
		return broker.ToTopic(of.Topic), nil
	}
	return broker.Audience{}, nil
}

// tellBatch tells what a tap has seen, and with position where it is now.
func tellBatch(batch broker.TapBatch, position bool, tell func(*pealv1.TailResponse) error) error {
	if gap := batch.Gap; gap.Reason != "" {
		err := tell(&pealv1.TailResponse{Told: &pealv1.TailResponse_Gap{
			Gap: &pealv1.TailGap{Reason: gap.Reason, Messages: int64(gap.Messages)},
		}})
		if err != nil {
			return err
		}
	}
	for _, m := range batch.Messages {
		if err := tell(&pealv1.TailResponse{Told: &pealv1.TailResponse_Message{Message: tailedMessage(m)}}); err != nil {
			return err
		}
	}
	if !position {
		return nil
	}
	return tell(&pealv1.TailResponse{Told: &pealv1.TailResponse_Position{Position: batch.Position}})
}

func tailedMessage(m broker.Tapped) *pealv1.TailedMessage {
	told := &pealv1.TailedMessage{
		Id:         m.ID,
		Event:      m.Event,
		Data:       m.Data,
		Recipients: toInt32(m.Recipients),
		Time:       timestamppb.New(m.At),
	}
	if id, ok := m.Audience.User(); ok {
		told.Audience = &pealv1.TailedMessage_UserId{UserId: id}
	} else if name, ok := m.Audience.Topic(); ok {
		told.Audience = &pealv1.TailedMessage_Topic{Topic: name}
	} else {
		told.Audience = &pealv1.TailedMessage_Everyone{Everyone: true}
	}
	return told
}
