package cluster

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/peald/peald/gen/peal/cluster/v1"
	"github.com/peald/peald/internal/broker"
)

// encode returns m as it is stored in a batch.
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

// decode returns a message from a batch. It returns an error if the message is
// invalid.
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
	// Another program may have written it, and a frame must not contain more
	// than one event.
	return m, m.Validate()
}

// verdict returns what the node that appended a batch knew about the idempotency
// key of a message. It is empty if the batch was made in another epoch.
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
