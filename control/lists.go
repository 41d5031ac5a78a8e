package control

import (
	"context"
	"encoding/base64"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

const (
	defaultPageSize = 100
	maxPageSize     = 1000
)

// ListUsers implements pealv1.ControlServiceServer.
func (s *Service) ListUsers(_ context.Context, req *pealv1.ListUsersRequest) (*pealv1.ListUsersResponse, error) {
	size, after, err := pageOf(req, broker.ValidUserID)
	if err != nil {
		return nil, err
	}
	users := s.broker.Users(req.GetPrefix(), after, size+1)
	resp := &pealv1.ListUsersResponse{}
	if len(users) > size {
		users = users[:size]
		resp.NextPageToken = pageToken(users[size-1].ID)
	}
	for _, u := range users {
		resp.Users = append(resp.Users, user(u))
	}
	return resp, nil
}

// ListTopics implements pealv1.ControlServiceServer.
func (s *Service) ListTopics(_ context.Context, req *pealv1.ListTopicsRequest) (*pealv1.ListTopicsResponse, error) {
	size, after, err := pageOf(req, broker.ValidPattern)
	if err != nil {
		return nil, err
	}
	topics := s.broker.Topics(req.GetPrefix(), after, size+1)
	resp := &pealv1.ListTopicsResponse{}
	if len(topics) > size {
		topics = topics[:size]
		resp.NextPageToken = pageToken(topics[size-1].Name)
	}
	for _, t := range topics {
		resp.Topics = append(resp.Topics, &pealv1.Topic{Topic: t.Name, Subscribers: toInt32(t.Subscribers)})
	}
	return resp, nil
}

func user(u broker.User) *pealv1.User {
	return &pealv1.User{UserId: u.ID, Connections: toInt32(u.Connections), ConnectedSince: timestamppb.New(u.Since)}
}

// pageOf is the size of the page that req asks for, and the name that it comes
// after, which is valid by valid.
func pageOf(req interface {
	GetPageSize() int32
	GetPageToken() string
}, valid func(name string) error) (size int, after string, _ error) {
	var wrong []fieldError
	size = int(req.GetPageSize())
	switch {
	case size == 0:
		size = defaultPageSize
	case size < 0 || size > maxPageSize:
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
