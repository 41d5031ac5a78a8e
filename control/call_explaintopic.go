package control

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// ExplainTopic implements pealv1.ControlServiceServer.
func (s *Service) ExplainTopic(_ context.Context, req *pealv1.ExplainTopicRequest) (*pealv1.ExplainTopicResponse, error) {
	topic := req.GetTopic()
	if err := broker.ValidTopic(topic); err != nil {
		return nil, fmt.Errorf("finding the policy: %w", err)
	}

	policies := s.reloadable.Load().cfg.TopicPolicies
	resp := &pealv1.ExplainTopicResponse{Policies: toInt32(len(policies))}

	i := slices.IndexFunc(policies, func(p TopicPolicy) bool { return broker.Covers(p.Pattern, topic) })
	if i >= 0 {
		resp.Policy = policies[i].message()
		resp.Policy.Position = toInt32(i + 1)
	}

	return resp, nil
}

// message returns the policy without its position.
func (p TopicPolicy) message() *pealv1.TopicPolicy {
	m := &pealv1.TopicPolicy{Pattern: p.Pattern, Anonymous: p.Anonymous}

	if p.MaxEvents != 0 {
		m.MaxEvents = new(toInt32(p.MaxEvents))
	}

	if p.Retain {
		m.Retain = &p.Retain
	}

	if p.SlowConsumer != "" {
		m.SlowConsumer = &p.SlowConsumer
	}

	if p.MaxAge != nil {
		m.MaxAge = durationpb.New(*p.MaxAge)
	}

	return m
}
