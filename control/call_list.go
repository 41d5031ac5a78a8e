package control

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

const (
	defaultPageSize = 100
	maxPageSize     = 1000
)

// ListUsers implements pealv1.ControlServiceServer.
func (s *Service) ListUsers(ctx context.Context, req *pealv1.ListUsersRequest) (*pealv1.ListUsersResponse, error) {
	resp, err := s.localUsers(req)
	if err != nil {
		return nil, err
	}

	more := resp.GetNextPageToken() != ""
	users := resp.GetUsers()

	resp.MissingNodes, err = queryOthers(ctx, s, pealv1.ControlService_ListUsers_FullMethodName, req,
		func(_ string, other *pealv1.ListUsersResponse) {
			users = append(users, other.GetUsers()...)
			more = more || other.GetNextPageToken() != ""
		})
	if err != nil {
		return nil, fmt.Errorf("listing users: %w", err)
	}

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
	resp, err := s.localTopics(req)
	if err != nil {
		return nil, err
	}

	more := resp.GetNextPageToken() != ""
	topics := resp.GetTopics()

	resp.MissingNodes, err = queryOthers(ctx, s, pealv1.ControlService_ListTopics_FullMethodName, req,
		func(_ string, other *pealv1.ListTopicsResponse) {
			topics = append(topics, other.GetTopics()...)
			more = more || other.GetNextPageToken() != ""
		})
	if err != nil {
		return nil, fmt.Errorf("listing topics: %w", err)
	}

	topics = merge(topics, (*pealv1.Topic).GetTopic, func(t, other *pealv1.Topic) { t.Subscribers += other.GetSubscribers() })
	resp.Topics, resp.NextPageToken = firstPage(topics, sizeOf(req), more, (*pealv1.Topic).GetTopic)

	return resp, nil
}

// merge sorts rows by name, and combines those with the same name.
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

// firstPage returns the first page of rows, which come from one node or from all nodes,
// and the token for the next page. more is true if any node has further rows. Such a
// node has returned a full page, so the first page isn't missing any rows.
func firstPage[R any](rows []R, size int, more bool, name func(R) string) (page []R, next string) {
	if len(rows) > size {
		rows, more = rows[:size], true
	}

	if more {
		next = pageToken(name(rows[len(rows)-1]))
	}

	return rows, next
}

// localUsers is like ListUsers, but covers only this daemon's streams.
func (s *Service) localUsers(req *pealv1.ListUsersRequest) (*pealv1.ListUsersResponse, error) {
	size, after, err := pageOf(req, broker.ValidUserID)
	if err != nil {
		return nil, err
	}

	resp := &pealv1.ListUsersResponse{}
	for _, u := range s.broker.Users(req.GetPrefix(), after, size+1) {
		resp.Users = append(resp.Users, userMessage(u))
	}

	resp.Users, resp.NextPageToken = firstPage(resp.GetUsers(), size, false, (*pealv1.User).GetUserId)

	return resp, nil
}

// localTopics is like ListTopics, but covers only this daemon's streams.
func (s *Service) localTopics(req *pealv1.ListTopicsRequest) (*pealv1.ListTopicsResponse, error) {
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

// sizeOf returns the size of the requested page.
func sizeOf(req interface{ GetPageSize() int32 }) int {
	if size := int(req.GetPageSize()); size != 0 {
		return size
	}

	return defaultPageSize
}

// pageOf returns the size of the requested page, and the name after which the page
// starts. It rejects a name that valid doesn't accept.
func pageOf(req interface {
	GetPageSize() int32
	GetPageToken() string
}, valid func(name string) error) (size int, after string, _ error) {
	size, after, invalid := pageFields(req, valid)
	if len(invalid) > 0 {
		return 0, "", apierror.Invalid(invalid...)
	}

	return size, after, nil
}

// pageFields is like pageOf, but returns the invalid fields instead of an error.
func pageFields(req interface {
	GetPageSize() int32
	GetPageToken() string
}, valid func(decoded string) error) (size int, after string, invalid []apierror.Field) {
	if size = sizeOf(req); size < 0 || size > maxPageSize {
		invalid = append(invalid, apierror.Field{Name: "page_size", Problem: fmt.Sprintf(
			"is %d; want 1 to %d, or 0 for the default of %d", size, maxPageSize, defaultPageSize)})
	}

	if token := req.GetPageToken(); token != "" {
		decoded, err := base64.RawURLEncoding.Strict().DecodeString(token)
		if after = string(decoded); err != nil || valid(after) != nil {
			invalid = append(invalid, apierror.Field{Name: "page_token", Problem: "is not the next_page_token of an earlier reply"})
		}
	}

	return size, after, invalid
}

// pageToken returns the token for the page that follows the name last. It is encoded to
// keep clients from depending on its contents.
func pageToken(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }
