package control

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// ListRetained implements pealv1.ControlServiceServer.
func (s *Service) ListRetained(ctx context.Context, req *pealv1.ListRetainedRequest) (*pealv1.ListRetainedResponse, error) {
	q := broker.RetainedList{Pattern: req.GetTopic()}

	size, _, invalid := pageFields(req, func(token string) (err error) {
		q.After, err = parseAudience(token)

		return err
	})
	q.Limit = size

	if q.Pattern != "" {
		if wrong, ok := errors.AsType[*broker.InvalidError](broker.ValidPattern(q.Pattern)); ok {
			invalid = append(invalid, apierror.Field{Name: wrong.Field, Problem: wrong.Reason})
		}
	}

	if len(invalid) > 0 {
		return nil, apierror.Invalid(invalid...)
	}

	page, err := s.broker.RetainedAudiences(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("listing retained values: %w", err)
	}

	resp := &pealv1.ListRetainedResponse{}
	for _, a := range page.Audiences {
		resp.Audiences = append(resp.Audiences, retainedMessage(a))
	}

	if page.Next != (broker.Audience{}) {
		resp.NextPageToken = pageToken(audienceToken(page.Next))
	}

	return resp, nil
}

func retainedMessage(a broker.RetainedAudience) *pealv1.RetainedAudience {
	m := &pealv1.RetainedAudience{Events: int64(a.Values), Bytes: int64(a.Bytes)}
	if user, ok := a.Audience.User(); ok {
		m.Audience = &pealv1.RetainedAudience_UserId{UserId: user}
	} else if topic, ok := a.Audience.Topic(); ok {
		m.Audience = &pealv1.RetainedAudience_Topic{Topic: topic}
	} else {
		m.Audience = &pealv1.RetainedAudience_Everyone{Everyone: true}
	}

	return m
}

// The prefixes of audienceToken.
const (
	everyoneToken = "everyone"
	userToken     = "user "
	topicToken    = "topic "
)

// audienceToken returns a string that parseAudience turns back into the audience.
func audienceToken(a broker.Audience) string {
	if user, ok := a.User(); ok {
		return userToken + user
	}

	if topic, ok := a.Topic(); ok {
		return topicToken + topic
	}

	return everyoneToken
}

// parseAudience returns the audience for a string from audienceToken.
func parseAudience(text string) (broker.Audience, error) {
	if user, ok := strings.CutPrefix(text, userToken); ok {
		return broker.ToUser(user), broker.ValidUserID(user)
	}

	if topic, ok := strings.CutPrefix(text, topicToken); ok {
		return broker.ToTopic(topic), broker.ValidTopic(topic)
	}

	if text != everyoneToken {
		return broker.Audience{}, errAudienceToken
	}

	return broker.Everyone(), nil
}

var errAudienceToken = errors.New("is not the next_page_token of an earlier reply")
