package control

import (
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

const (
	defaultPageSize = 100
	maxPageSize     = 1000

	defaultTokenTTL = time.Hour
	maxTokenTTL     = 365 * 24 * time.Hour
)

// Broadcast implements pealv1.ControlServiceServer.
func (s *Service) Broadcast(ctx context.Context, req *pealv1.BroadcastRequest) (*pealv1.BroadcastResponse, error) {
	receipt, err := s.broker.Publish(ctx, broker.Message{
		Audience: broker.Everyone(),
		Event:    req.GetEvent(),
		Data:     req.GetData(),
	})
	if err != nil {
		return nil, fmt.Errorf("broadcasting: %w", err)
	}
	return &pealv1.BroadcastResponse{Id: receipt.ID, Recipients: toInt32(receipt.Recipients)}, nil
}

// SendToUser implements pealv1.ControlServiceServer.
func (s *Service) SendToUser(ctx context.Context, req *pealv1.SendToUserRequest) (*pealv1.SendToUserResponse, error) {
	receipt, err := s.broker.Publish(ctx, broker.Message{
		Audience: broker.ToUser(req.GetUserId()),
		Event:    req.GetEvent(),
		Data:     req.GetData(),
	})
	if err != nil {
		return nil, fmt.Errorf("sending to a user: %w", err)
	}
	return &pealv1.SendToUserResponse{Id: receipt.ID, Recipients: toInt32(receipt.Recipients)}, nil
}

// ListUsers implements pealv1.ControlServiceServer.
func (s *Service) ListUsers(_ context.Context, req *pealv1.ListUsersRequest) (*pealv1.ListUsersResponse, error) {
	var wrong []fieldError
	size := int(req.GetPageSize())
	switch {
	case size == 0:
		size = defaultPageSize
	case size < 0 || size > maxPageSize:
		wrong = append(wrong, fieldError{"page_size", fmt.Sprintf("is %d, 1 to %d are accepted, and 0 for %d", size, maxPageSize, defaultPageSize)})
	}
	after, ok := userOf(req.GetPageToken())
	if !ok {
		wrong = append(wrong, fieldError{"page_token", "is not the next_page_token of an earlier reply"})
	}
	if len(wrong) > 0 {
		return nil, invalid(wrong...)
	}

	users := s.broker.Users(req.GetPrefix(), after, size+1)
	resp := &pealv1.ListUsersResponse{}
	if len(users) > size {
		users = users[:size]
		resp.NextPageToken = pageToken(users[size-1].ID)
	}
	for _, u := range users {
		resp.Users = append(resp.Users, &pealv1.User{
			UserId:         u.ID,
			Connections:    toInt32(u.Connections),
			ConnectedSince: timestamppb.New(u.Since),
		})
	}
	return resp, nil
}

// A page token is the last user of the page, in a form that keeps people from
// building on what it is.
func pageToken(user string) string { return base64.RawURLEncoding.EncodeToString([]byte(user)) }

func userOf(pageToken string) (user string, ok bool) {
	if pageToken == "" {
		return "", true
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(pageToken)
	if err != nil || broker.ValidUserID(string(decoded)) != nil {
		return "", false
	}
	return string(decoded), true
}

// Stats implements pealv1.ControlServiceServer.
func (s *Service) Stats(context.Context, *pealv1.StatsRequest) (*pealv1.StatsResponse, error) {
	st := s.broker.Stats()
	resp := &pealv1.StatsResponse{
		Total:          shardStats(st.Total),
		Users:          toInt32(st.Users),
		Published:      st.Published,
		StartedAt:      timestamppb.New(st.StartedAt),
		Version:        s.cfg.Version,
		MaxConnections: toInt32(s.cfg.MaxConnections),
	}
	for _, row := range st.Shards {
		resp.Shards = append(resp.Shards, shardStats(row))
	}
	return resp, nil
}

func shardStats(st broker.ShardStats) *pealv1.ShardStats {
	return &pealv1.ShardStats{
		Shard:                    toInt32(st.Shard),
		Connections:              toInt32(st.Connections),
		AuthenticatedConnections: toInt32(st.Authenticated),
		Connected:                st.Connected,
		Disconnected:             st.Disconnected,
		Delivered:                st.Delivered,
		Dropped:                  st.Dropped,
		Bytes:                    st.Bytes,
		QueuedBytes:              st.QueuedBytes,
	}
}

// CreateToken implements pealv1.ControlServiceServer.
func (s *Service) CreateToken(_ context.Context, req *pealv1.CreateTokenRequest) (*pealv1.CreateTokenResponse, error) {
	var wrong []fieldError
	if err := broker.ValidUserID(req.GetUserId()); err != nil {
		wrong = append(wrong, refusalOf(err).fields...)
	}
	ttl, text := lifetime(req)
	if text != "" {
		wrong = append(wrong, fieldError{"ttl", text})
	}
	if len(wrong) > 0 {
		return nil, invalid(wrong...)
	}
	if s.minter == nil {
		return nil, refuse(codes.FailedPrecondition, reasonNoSigningKey,
			"the daemon has no key to sign tokens with: auth.jwt.hmac_secret is to be set")
	}
	token, expires, err := s.minter.Mint(req.GetUserId(), ttl)
	if err != nil {
		return nil, fmt.Errorf("creating a token: %w", err)
	}
	return &pealv1.CreateTokenResponse{Token: token, ExpiresAt: timestamppb.New(expires)}, nil
}

// lifetime is how long the token is to be good for, or what is wrong with it.
func lifetime(req *pealv1.CreateTokenRequest) (ttl time.Duration, wrong string) {
	if req.GetTtl() == nil {
		return defaultTokenTTL, ""
	}
	const accepted = "more than 0s and at most 365 days (31536000s) are accepted"
	if err := req.GetTtl().CheckValid(); err != nil {
		return 0, "is no valid duration, " + accepted
	}
	ttl = req.GetTtl().AsDuration()
	if ttl <= 0 || ttl > maxTokenTTL {
		return 0, fmt.Sprintf("is %s, %s", ttl, accepted)
	}
	return ttl, ""
}

func toInt32(n int) int32 { return int32(max(math.MinInt32, min(n, math.MaxInt32))) }
