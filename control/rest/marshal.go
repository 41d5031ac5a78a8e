package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// jsonMarshaler encodes and decodes messages with protojson. Its output is the same in
// every build, whereas protojson's deliberately isn't. Its input must consist of
// exactly one message.
type jsonMarshaler struct{ runtime.JSONPb }

// Marshal implements runtime.Marshaler.
func (*jsonMarshaler) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case proto.Message:
		return encode(v)
	// This is an item of a stream. The gateway adds the line break.
	case map[string]any:
		if message, ok := v["result"].(proto.Message); ok {
			return encodeAs("result", message)
		}
	case map[string]proto.Message:
		return encodeAs("error", v["error"])
	}

	return nil, fmt.Errorf("%T is not a message", v)
}

func encodeAs(name string, message proto.Message) ([]byte, error) {
	encoded, err := encode(message)
	if err != nil {
		return nil, err
	}

	return slices.Concat([]byte(`{"`+name+`":`), bytes.TrimSpace(encoded), []byte("}")), nil
}

func encode(message proto.Message) ([]byte, error) {
	// Omit empty fields from errors: their details contain many, and none has a
	// meaning.
	_, isStatus := message.(*rpcstatus.Status)
	encoded, err := protojson.MarshalOptions{EmitUnpopulated: !isStatus}.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encoding JSON: %w", err)
	}

	var out bytes.Buffer
	if err := json.Compact(&out, encoded); err != nil {
		return nil, fmt.Errorf("encoding JSON: %w", err)
	}

	out.WriteByte('\n')

	return out.Bytes(), nil
}

// NewDecoder implements runtime.Marshaler. R must be the body of a call.
func (*jsonMarshaler) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		body, ok := r.(*requestBody)
		message, isMessage := v.(proto.Message)

		if !ok || !isMessage {
			return fmt.Errorf("cannot decode %T into %T", r, v)
		}

		body.err = body.decode(message)

		return body.err
	})
}
