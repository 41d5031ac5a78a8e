package cluster

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/peald/peald/gen/peal/cluster/v1"
	"github.com/peald/peald/internal/broker"
)

// encode returns m in the form in which a batch stores it.
func encode(m *broker.Message) *clusterv1.Message {
	out := &clusterv1.Message{
		Data:           m.Data,
		Event:          m.Event,
		IdempotencyKey: m.IdempotencyKey,
		ConflateKey:    m.ConflateKey,
		TtlNanos:       int64(m.TTL),
		Retain:         m.Retain,
		Final:          m.Final,
		ExcludeUserId:  m.ExcludeUser,
	}
	setAudience(out, m.Audience)
	for _, name := range m.Topics {
		out.FurtherTopics = append(out.FurtherTopics, &clusterv1.FurtherTopic{Name: name})
	}
	return out
}

// applyPolicies marks the audiences of m for which a policy retains it.
func applyPolicies(m *clusterv1.Message, retainedByPolicy func(broker.Audience) bool) {
	m.RetainedByPolicy = retainedByPolicy(audience(m))
	for _, topic := range m.GetFurtherTopics() {
		topic.RetainedByPolicy = retainedByPolicy(broker.ToTopic(topic.GetName()))
	}
}

// retainedFor returns the audiences for which m must be retained.
func retainedFor(m *clusterv1.Message) (audiences []broker.Audience) {
	if m.GetRetain() || m.GetRetainedByPolicy() {
		audiences = append(audiences, audience(m))
	}
	for _, topic := range m.GetFurtherTopics() {
		if m.GetRetain() || topic.GetRetainedByPolicy() {
			audiences = append(audiences, broker.ToTopic(topic.GetName()))
		}
	}
	return audiences
}

// isRetained reports whether m must be retained for any of its audiences.
func isRetained(m *clusterv1.Message) bool {
	return m.GetRetain() || m.GetRetainedByPolicy() ||
		slices.ContainsFunc(m.GetFurtherTopics(), (*clusterv1.FurtherTopic).GetRetainedByPolicy)
}

// furtherPolicies returns RetainedByPolicy of m's further topics; nil if none of them has
// it.
func furtherPolicies(m *clusterv1.Message) []bool {
	topics := m.GetFurtherTopics()
	if !slices.ContainsFunc(topics, (*clusterv1.FurtherTopic).GetRetainedByPolicy) {
		return nil
	}
	byPolicy := make([]bool, len(topics))
	for i, topic := range topics {
		byPolicy[i] = topic.GetRetainedByPolicy()
	}
	return byPolicy
}

// encodeClear returns c in the form in which a batch stores it.
func encodeClear(c broker.Clear) *clusterv1.Message {
	if c.All {
		return &clusterv1.Message{Clear: clusterv1.Clear_CLEAR_EVERYTHING}
	}
	out := &clusterv1.Message{Clear: clusterv1.Clear_CLEAR_ALL}
	if c.ConflateKey != nil {
		out.Clear, out.ConflateKey = clusterv1.Clear_CLEAR_KEY, *c.ConflateKey
	}
	setAudience(out, c.Audience)
	return out
}

func setAudience(out *clusterv1.Message, a broker.Audience) {
	if user, ok := a.User(); ok {
		out.Audience = &clusterv1.Message_UserId{UserId: user}
	} else if topic, ok := a.Topic(); ok {
		out.Audience = &clusterv1.Message_Topic{Topic: topic}
	} else {
		out.Audience = &clusterv1.Message_Everyone{Everyone: true}
	}
}

func audience(in *clusterv1.Message) broker.Audience {
	switch to := in.GetAudience().(type) {
	case *clusterv1.Message_Everyone:
		return broker.Everyone()
	case *clusterv1.Message_UserId:
		return broker.ToUser(to.UserId)
	case *clusterv1.Message_Topic:
		return broker.ToTopic(to.Topic)
	}
	return broker.Audience{}
}

// decodeClear decodes a message in a batch that clears retained values. It returns an
// error if the message is invalid.
func decodeClear(in *clusterv1.Message) (broker.Clear, error) {
	c := broker.Clear{Audience: audience(in)}
	switch key := in.GetConflateKey(); in.GetClear() {
	case clusterv1.Clear_CLEAR_EVERYTHING:
		c.All = true
	case clusterv1.Clear_CLEAR_ALL:
	case clusterv1.Clear_CLEAR_KEY:
		c.ConflateKey = &key
	default:
		return c, fmt.Errorf("unknown kind of clear %v", in.GetClear())
	}
	return c, c.Validate()
}

// decode decodes a message in a batch. It returns an error if the message is invalid.
func decode(in *clusterv1.Message) (broker.Message, error) {
	m := broker.Message{
		Audience:       audience(in),
		Data:           in.GetData(),
		Event:          in.GetEvent(),
		IdempotencyKey: in.GetIdempotencyKey(),
		ConflateKey:    in.GetConflateKey(),
		TTL:            time.Duration(in.GetTtlNanos()),
		Retain:         in.GetRetain(),
		Final:          in.GetFinal(),
		ExcludeUser:    in.GetExcludeUserId(),
	}
	for _, topic := range in.GetFurtherTopics() {
		m.Topics = append(m.Topics, topic.GetName())
	}
	// Another program may have written the message. Validation ensures, for example,
	// that a frame can't contain more than one event.
	return m, m.Validate()
}

// verdict returns what the node that appended a batch knew about a message's
// idempotency key. It returns an empty verdict if the batch is from another epoch.
func verdict(batch *clusterv1.Batch, in *clusterv1.Message, epoch string) (v broker.Verdict) {
	if batch.GetEpoch() == epoch {
		v = broker.Verdict{AsOf: batch.GetAsOf(), Repeats: in.GetRepeats(), Used: in.GetKeyUsed()}
	}
	return v
}

// decodeBatch decodes the batch in a message from the stream.
func decodeBatch(data []byte) (*clusterv1.Batch, error) {
	batch := new(clusterv1.Batch)
	if err := proto.Unmarshal(data, batch); err != nil {
		return nil, fmt.Errorf("not a batch: %w", err)
	}
	if n := len(batch.GetMessages()); n > eventsPerEntry {
		return nil, fmt.Errorf("batch of %d messages; the maximum is %d", n, eventsPerEntry)
	}
	return batch, nil
}
