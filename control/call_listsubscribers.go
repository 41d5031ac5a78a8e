package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// ListSubscribers implements pealv1.ControlServiceServer.
func (s *Service) ListSubscribers(ctx context.Context, req *pealv1.ListSubscribersRequest) (*pealv1.ListSubscribersResponse, error) {
	resp, err := s.localSubscribers(ctx, req)
	if err != nil {
		return nil, err
	}

	more := resp.GetNextPageToken() != ""
	users := resp.GetUsers()

	resp.MissingNodes, err = queryOthers(ctx, s, pealv1.ControlService_ListSubscribers_FullMethodName, req,
		func(_ string, other *pealv1.ListSubscribersResponse) {
			users = append(users, other.GetUsers()...)
			resp.AnonymousConnections += other.GetAnonymousConnections()
			more = more || other.GetNextPageToken() != ""
		})
	if err != nil {
		return nil, fmt.Errorf("listing subscribers: %w", err)
	}

	users = merge(users, (*pealv1.Subscriber).GetUserId, func(u, other *pealv1.Subscriber) { u.Connections += other.GetConnections() })
	resp.Users, resp.NextPageToken = firstPage(users, sizeOf(req), more, (*pealv1.Subscriber).GetUserId)

	return resp, nil
}

// localSubscribers is like ListSubscribers, but covers only this daemon's streams.
func (s *Service) localSubscribers(ctx context.Context, req *pealv1.ListSubscribersRequest) (*pealv1.ListSubscribersResponse, error) {
	size, after, invalid := pageFields(req, broker.ValidUserID)
	if wrong, ok := errors.AsType[*broker.InvalidError](broker.ValidPattern(req.GetTopic())); ok {
		invalid = append(invalid, apierror.Field{Name: wrong.Field, Problem: wrong.Reason})
	}

	if len(invalid) > 0 {
		return nil, apierror.Invalid(invalid...)
	}

	found, err := s.broker.Subscribers(ctx, broker.SubscriberList{Topic: req.GetTopic(), Prefix: req.GetPrefix(), After: after, Limit: size + 1})
	if err != nil {
		return nil, fmt.Errorf("listing subscribers: %w", err)
	}

	resp := &pealv1.ListSubscribersResponse{AnonymousConnections: toInt32(found.Anonymous)}
	for _, u := range found.Users {
		resp.Users = append(resp.Users, &pealv1.Subscriber{UserId: u.ID, Connections: toInt32(u.Connections)})
	}

	resp.Users, resp.NextPageToken = firstPage(resp.GetUsers(), size, false, (*pealv1.Subscriber).GetUserId)

	return resp, nil
}
