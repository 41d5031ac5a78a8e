package control

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// positionInterval is the interval at which a tail sends its position. A tail that gets
// no messages can resume from the last position, and the traffic keeps proxies from
// closing the connection as idle.
const positionInterval = 15 * time.Second

// Tail implements pealv1.ControlServiceServer.
func (s *Service) Tail(req *pealv1.TailRequest, stream grpc.ServerStreamingServer[pealv1.TailResponse]) error {
	of, invalid := tailAudience(req)
	if invalid != nil {
		return apierror.Invalid(*invalid)
	}

	tap, err := s.broker.Tap(of, req.GetLastEventId())
	if err != nil {
		return fmt.Errorf("starting a tail: %w", err)
	}
	defer tap.Close()

	tick := time.NewTicker(positionInterval)
	defer tick.Stop()

	for position := true; ; {
		batch, err := tap.Take()
		if err != nil {
			return err
		}

		for _, resp := range tailResponses(batch, position) {
			if err := stream.Send(resp); err != nil {
				return fmt.Errorf("sending messages for a tail: %w", err)
			}
		}

		position = false

		select {
		case <-s.draining:
			return broker.ErrClosed
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-tick.C:
			position = true
		case <-tap.C:
		}
	}
}

// tailAudience returns the audience that req selects.
func tailAudience(req *pealv1.TailRequest) (broker.Audience, *apierror.Field) {
	switch of := req.GetAudience().(type) {
	case *pealv1.TailRequest_Everyone:
		if !of.Everyone {
			return broker.Audience{}, &apierror.Field{Name: "everyone", Problem: onlyTrue}
		}

		return broker.Everyone(), nil
	case *pealv1.TailRequest_UserId:
		return broker.ToUser(of.UserId), nil
	case *pealv1.TailRequest_Topic:
		return broker.ToTopic(of.Topic), nil
	}

	return broker.Audience{}, nil
}

// tailResponses returns the responses for a batch: a gap, the messages and, if
// requested, the current position.
func tailResponses(batch broker.TapBatch, position bool) []*pealv1.TailResponse {
	responses := make([]*pealv1.TailResponse, 0, len(batch.Messages)+1)

	if gap := batch.Gap; gap.Reason != "" {
		responses = append(responses, &pealv1.TailResponse{Item: &pealv1.TailResponse_Gap{
			Gap: &pealv1.TailGap{Reason: gap.Reason, Messages: int64(gap.Messages)},
		}})
	}

	for _, m := range batch.Messages {
		responses = append(responses, &pealv1.TailResponse{Item: &pealv1.TailResponse_Message{Message: tailedMessage(m)}})
	}

	if position {
		responses = append(responses, &pealv1.TailResponse{Item: &pealv1.TailResponse_Position{Position: batch.Position}})
	}

	return responses
}

func tailedMessage(m broker.Tapped) *pealv1.TailedMessage {
	message := &pealv1.TailedMessage{
		Id:         m.ID,
		Event:      m.Event,
		Data:       m.Data,
		Recipients: toInt32(m.Recipients),
		Time:       timestamppb.New(m.At),
		Topics:     m.Topics,
	}

	if id, ok := m.Audience.User(); ok {
		message.Audience = &pealv1.TailedMessage_UserId{UserId: id}
	} else if name, ok := m.Audience.Topic(); ok {
		message.Audience = &pealv1.TailedMessage_Topic{Topic: name}
	} else {
		message.Audience = &pealv1.TailedMessage_Everyone{Everyone: true}
	}

	if m.ExcludeUser != "" {
		message.ExcludeUserIdValue = &pealv1.TailedMessage_ExcludeUserId{ExcludeUserId: m.ExcludeUser}
	}

	return message
}
