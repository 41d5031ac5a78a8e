package control

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// The values of ListMessagesRequest.order.
const (
	oldestFirst = "oldest"
	newestFirst = "newest"
)

// ListMessages implements pealv1.ControlServiceServer.
func (s *Service) ListMessages(ctx context.Context, req *pealv1.ListMessagesRequest) (*pealv1.ListMessagesResponse, error) {
	q, err := readOf(req)
	if err != nil {
		return nil, err
	}

	page, err := s.broker.ReadMessages(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("reading messages: %w", err)
	}

	resp := &pealv1.ListMessagesResponse{Position: page.Position}
	for _, m := range page.Messages {
		listed := &pealv1.Message{Id: m.ID, Event: m.Event, Data: m.Data, Time: timestamppb.New(m.At), Final: m.Final}
		if !m.Expires.IsZero() {
			listed.ExpireTimeValue = &pealv1.Message_ExpireTime{ExpireTime: timestamppb.New(m.Expires)}
		}

		if q.Retained && m.ConflateKey != "" {
			listed.ConflateKeyValue = &pealv1.Message_ConflateKey{ConflateKey: m.ConflateKey}
		}

		resp.Messages = append(resp.Messages, listed)
	}

	if page.More {
		next := tokenOf(q)
		next.cursor, next.position = page.Messages[len(page.Messages)-1].ID, page.Position
		resp.NextPageToken = pageToken(next.String())
	}

	return resp, nil
}

// readOf converts req to a broker.Read.
func readOf(req *pealv1.ListMessagesRequest) (q broker.Read, _ error) {
	var token messageToken
	size, text, invalid := pageFields(req, func(text string) (err error) {
		token, err = parseMessageToken(text)

		return err
	})
	q = broker.Read{After: req.GetAfterId(), Limit: size, Retained: req.GetRetained()}

	var err error

	switch of := req.GetAudience().(type) {
	case *pealv1.ListMessagesRequest_UserId:
		q.Audience, err = broker.ToUser(of.UserId), broker.ValidUserID(of.UserId)
	case *pealv1.ListMessagesRequest_Topic:
		q.Audience, err = broker.ToTopic(of.Topic), broker.ValidTopic(of.Topic)
	case *pealv1.ListMessagesRequest_Everyone:
		if q.Audience = broker.Everyone(); !of.Everyone {
			err = &broker.InvalidError{Field: "everyone", Reason: onlyTrue}
		}
	default:
		err = &broker.InvalidError{Field: "audience", Reason: "is missing; set everyone, user_id or topic"}
	}

	if wrong, ok := errors.AsType[*broker.InvalidError](err); ok {
		invalid = append(invalid, apierror.Field{Name: wrong.Field, Problem: wrong.Reason})
	}

	if wrong, ok := errors.AsType[*broker.InvalidError](broker.ValidEventID(q.After)); ok && q.After != "" {
		invalid = append(invalid, apierror.Field{Name: "after_id", Problem: wrong.Reason})
	}

	switch order := req.GetOrder(); order {
	case "", oldestFirst:
	case newestFirst:
		q.Newest = true
	default:
		invalid = append(invalid, apierror.Field{Name: "order", Problem: fmt.Sprintf("is %.80q; want %s or %s", order, oldestFirst, newestFirst)})
	}

	if len(invalid) == 0 && text != "" {
		invalid = continueAt(&q, token)
	}

	if len(invalid) > 0 {
		return q, apierror.Invalid(invalid...)
	}

	return q, nil
}

// continueAt sets the position of q from a page token. It returns an invalid field if
// the token belongs to another request.
func continueAt(q *broker.Read, token messageToken) []apierror.Field {
	if want := tokenOf(*q); token.request() != want.request() {
		return []apierror.Field{{Name: "page_token", Problem: "is from a request with another " + token.difference(want) +
			"; only page_size may differ between pages"}}
	}

	q.Cursor, q.Position = token.cursor, token.position

	return nil
}
