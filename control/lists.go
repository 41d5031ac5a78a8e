package control

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

const (
	defaultPageSize = 100
	maxPageSize     = 1000
)

// ListUsers implements pealv1.ControlServiceServer.
func (s *Service) ListUsers(ctx context.Context, req *pealv1.ListUsersRequest) (*pealv1.ListUsersResponse, error) {
	resp, err := s.ownUsers(req)
	if err != nil {
		return nil, err
	}
	more := resp.GetNextPageToken() != ""
	users := resp.GetUsers()
	missing, err := askOthers(ctx, s, pealv1.ControlService_ListUsers_FullMethodName, req,
		func(_ string, other *pealv1.ListUsersResponse) {
			users = append(users, other.GetUsers()...)
			more = more || other.GetNextPageToken() != ""
		})
	if err != nil {
		return nil, fmt.Errorf("listing users: %w", err)
	}
	resp.MissingNodes = missing
	users = merge(users, (*pealv1.User).GetUserId, func(u, other *pealv1.User) {
		u.Connections += other.GetConnections()
		if other.GetConnectedSince().AsTime().Before(u.GetConnectedSince().AsTime()) {
			u.ConnectedSince = other.GetConnectedSince()
		}
	})
	resp.Users, resp.NextPageToken = firstPage(users, sizeOf(req), more, (*pealv1.User).GetUserId)
	return resp, nil
}

// ListTopics implements pealv1.ControlServiceServer.
func (s *Service) ListTopics(ctx context.Context, req *pealv1.ListTopicsRequest) (*pealv1.ListTopicsResponse, error) {
	resp, err := s.ownTopics(req)
	if err != nil {
		return nil, err
	}
	more := resp.GetNextPageToken() != ""
	topics := resp.GetTopics()
	missing, err := askOthers(ctx, s, pealv1.ControlService_ListTopics_FullMethodName, req,
		func(_ string, other *pealv1.ListTopicsResponse) {
			topics = append(topics, other.GetTopics()...)
			more = more || other.GetNextPageToken() != ""
		})
	if err != nil {
		return nil, fmt.Errorf("listing topics: %w", err)
	}
	resp.MissingNodes = missing
	topics = merge(topics, (*pealv1.Topic).GetTopic, func(t, other *pealv1.Topic) { t.Subscribers += other.GetSubscribers() })
	resp.Topics, resp.NextPageToken = firstPage(topics, sizeOf(req), more, (*pealv1.Topic).GetTopic)
	return resp, nil
}

// merge sorts rows by name, and adds those of the same name up.
func merge[R any](rows []R, name func(R) string, add func(row, other R)) []R {
	slices.SortStableFunc(rows, func(a, b R) int { return cmp.Compare(name(a), name(b)) })
	merged := rows[:0]
	for _, row := range rows {
		if n := len(merged); n > 0 && name(merged[n-1]) == name(row) {
			add(merged[n-1], row)
		} else {
			merged = append(merged, row)
		}
	}
	return merged
}

// firstPage is the first page of the rows that came from all daemons, and the
// token of the next one, if there are more rows or daemons have more. Each has
// given a full page if it has more, so that no row is missing on this one.
func firstPage[R any](rows []R, size int, more bool, name func(R) string) (page []R, next string) {
	if len(rows) > size {
		rows, more = rows[:size], true
	}
	if more {
		next = pageToken(name(rows[len(rows)-1]))
	}
	return rows, next
}

// ownUsers is ListUsers of what this daemon holds.
func (s *Service) ownUsers(req *pealv1.ListUsersRequest) (*pealv1.ListUsersResponse, error) {
	size, after, err := pageOf(req, broker.ValidUserID)
	if err != nil {
		return nil, err
	}
	resp := &pealv1.ListUsersResponse{}
	for _, u := range s.broker.Users(req.GetPrefix(), after, size+1) {
		resp.Users = append(resp.Users, user(u))
	}
	resp.Users, resp.NextPageToken = firstPage(resp.GetUsers(), size, false, (*pealv1.User).GetUserId)
	return resp, nil
}

// ownTopics is ListTopics of what this daemon holds.
func (s *Service) ownTopics(req *pealv1.ListTopicsRequest) (*pealv1.ListTopicsResponse, error) {
	size, after, err := pageOf(req, broker.ValidPattern)
	if err != nil {
		return nil, err
	}
	resp := &pealv1.ListTopicsResponse{}
	for _, t := range s.broker.Topics(req.GetPrefix(), after, size+1) {
		resp.Topics = append(resp.Topics, &pealv1.Topic{Topic: t.Name, Subscribers: toInt32(t.Subscribers)})
	}
	resp.Topics, resp.NextPageToken = firstPage(resp.GetTopics(), size, false, (*pealv1.Topic).GetTopic)
	return resp, nil
}

func user(u broker.User) *pealv1.User {
	return &pealv1.User{UserId: u.ID, Connections: toInt32(u.Connections), ConnectedSince: timestamppb.New(u.Since)}
}

// sizeOf is the size of the page that req asks for.
func sizeOf(req interface{ GetPageSize() int32 }) int {
	if size := int(req.GetPageSize()); size != 0 {
		return size
	}
	return defaultPageSize
}

// pageOf is the size of the page that req asks for, and the name that it comes
// after, which is valid by valid.
func pageOf(req interface {
	GetPageSize() int32
	GetPageToken() string
}, valid func(name string) error) (size int, after string, _ error) {
	var wrong []fieldError
	if size = sizeOf(req); size < 0 || size > maxPageSize {
		wrong = append(wrong, fieldError{"page_size", fmt.Sprintf("is %d, 1 to %d are accepted, and 0 for %d", size, maxPageSize, defaultPageSize)})
	}
	if token := req.GetPageToken(); token != "" {
		decoded, err := base64.RawURLEncoding.Strict().DecodeString(token)
		if after = string(decoded); err != nil || valid(after) != nil {
			wrong = append(wrong, fieldError{"page_token", "is not the next_page_token of an earlier reply"})
		}
	}
	if len(wrong) > 0 {
		return 0, "", invalid(wrong...)
	}
	return size, after, nil
}

// pageToken is the last name of a page, in a form that keeps people from
// building on what it is.
func pageToken(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }
