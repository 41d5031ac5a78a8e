package control

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/peald/peald/control/rest"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// decodeBatch decodes a batch message by message, because one that is malformed must not
// affect the others. If there are any, it returns a [rest.BatchError]. Any other
// error means that the request as a whole is invalid. Batches that are too long aren't
// decoded: an empty message takes up a hundred times as much memory once it is.
func decodeBatch(data []byte, batch *pealv1.PublishBatchRequest) error {
	encoded, n, ok := splitBatch(data)
	if !ok {
		return decodeError("request", data, batch)
	}

	if err := rest.CheckBatch(n); err != nil {
		return err
	}

	rejected := make(rest.BatchError)

	for i, data := range encoded {
		message := new(pealv1.PublishMessageRequest)
		if proto.Unmarshal(data, message) != nil {
			rejected[i] = decodeError("message", data, message)
			message.Reset()
		}

		batch.Messages = append(batch.GetMessages(), message)
	}

	if len(rejected) > 0 {
		return rejected
	}

	return nil
}

// splitBatch returns the first encoded messages in an encoded batch, at most
// rest.MaxBatch, and the number of all messages. It returns false if data isn't an
// encoded batch.
func splitBatch(data []byte) (first [][]byte, n int, ok bool) {
	const fieldMessages = 1

	for len(data) > 0 {
		number, typ, size := protowire.ConsumeTag(data)
		if size < 0 {
			return nil, 0, false
		}

		data = data[size:]

		if size = protowire.ConsumeFieldValue(number, typ, data); size < 0 {
			return nil, 0, false
		}

		value := data[:size]
		data = data[size:]

		if number != fieldMessages || typ != protowire.BytesType {
			continue // unknown to this version
		}

		if n++; n <= rest.MaxBatch {
			message, _ := protowire.ConsumeBytes(value)
			first = append(first, message)
		}
	}

	return first, n, true
}
