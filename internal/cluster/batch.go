package cluster

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/peald/peald/gen/peal/cluster/v1"
	"github.com/peald/peald/internal/broker"
)

// encode is a message as it stands in a batch.
func encode(m *broker.Message) *clusterv1.Message {
	out := &clusterv1.Message{
		Data:           m.Data,
		Event:          m.Event,
		IdempotencyKey: m.IdempotencyKey,
		ConflateKey:    m.ConflateKey,
		TtlNanos:       int64(m.TTL),
	}
	if user, ok := m.Audience.User(); ok {
		out.Audience = &clusterv1.Message_UserId{UserId: user}
	} else if topic, ok := m.Audience.Topic(); ok {
		out.Audience = &clusterv1.Message_Topic{Topic: topic}
	} else {
		out.Audience = &clusterv1.Message_Everyone{Everyone: true}
	}
	return out
}

// decode is the message that stands in a batch.
func decode(in *clusterv1.Message) (broker.Message, error) {
	m := broker.Message{
		Data:           in.GetData(),
		Event:          in.GetEvent(),
		IdempotencyKey: in.GetIdempotencyKey(),
		ConflateKey:    in.GetConflateKey(),
		TTL:            time.Duration(in.GetTtlNanos()),
	}
	switch to := in.GetAudience().(type) {
	case *clusterv1.Message_Everyone:
		m.Audience = broker.Everyone()
	case *clusterv1.Message_UserId:
		m.Audience = broker.ToUser(to.UserId)
	case *clusterv1.Message_Topic:
		m.Audience = broker.ToTopic(to.Topic)
	}
	// Somebody else may have written it, and a frame must not hold more than
	// one event.
	return m, m.Validate()
}

// stamp notes in a batch the log that it is for, and what this node knows of its
// messages' idempotency keys.
func (n *Node) stamp(batch *clusterv1.Batch, of []*submission) {
	var keyed []*clusterv1.Message
	var messages []*broker.Message
	for _, s := range of {
		if s.from.IdempotencyKey != "" {
			keyed, messages = append(keyed, s.message), append(messages, s.from)
		}
	}
	epoch, verdicts := n.broker.Verdicts(messages)
	batch.Epoch = epoch
	for i, v := range verdicts {
		batch.AsOf = v.AsOf
		keyed[i].Repeats, keyed[i].KeyUsed = v.Repeats, v.Used
	}
}

// verdict is what the node that appended a batch knew of a message's idempotency
// key, if that was in the log of epoch.
func verdict(batch *clusterv1.Batch, in *clusterv1.Message, epoch string) (v broker.Verdict) {
	if batch.GetEpoch() == epoch {
		v = broker.Verdict{AsOf: batch.GetAsOf(), Repeats: in.GetRepeats(), Used: in.GetKeyUsed()}
	}
	return v
}

// decodeBatch is the batch in a message of the stream.
func decodeBatch(data []byte) (*clusterv1.Batch, error) {
	batch := new(clusterv1.Batch)
	if err := proto.Unmarshal(data, batch); err != nil {
		return nil, fmt.Errorf("no batch: %w", err)
	}
	if n := len(batch.GetMessages()); n > eventsPerEntry {
		return nil, fmt.Errorf("a batch of %d messages, at most %d are accepted", n, eventsPerEntry)
	}
	return batch, nil
}
