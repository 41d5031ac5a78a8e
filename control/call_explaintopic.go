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
		policy := policies[i].message()
		policy.Position = toInt32(i + 1)
		resp.PolicyValue = &pealv1.ExplainTopicResponse_Policy{Policy: policy}
	}

	return resp, nil
}

// message converts the policy to a message without a position.
func (p TopicPolicy) message() *pealv1.TopicPolicy {
	m := &pealv1.TopicPolicy{Pattern: p.Pattern}

	if p.MaxEvents != 0 {
		m.MaxEventsValue = &pealv1.TopicPolicy_MaxEvents{MaxEvents: toInt32(p.MaxEvents)}
	}

	if p.MaxAge != nil {
		m.MaxAgeValue = &pealv1.TopicPolicy_MaxAge{MaxAge: durationpb.New(*p.MaxAge)}
	}

	if p.SlowConsumer != "" {
		m.SlowConsumerValue = &pealv1.TopicPolicy_SlowConsumer{SlowConsumer: p.SlowConsumer}
	}

	if p.Anonymous != nil {
		m.AnonymousValue = &pealv1.TopicPolicy_Anonymous{Anonymous: *p.Anonymous}
	}

	if p.Retain != nil {
		m.RetainValue = &pealv1.TopicPolicy_Retain{Retain: *p.Retain}
	}

	return m
}
