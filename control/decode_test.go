package control_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// rawCodec sends bytes as they are: no protobuf library would encode what these
// tests send, but clients in languages with other strings do.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	raw, ok := v.([]byte)
	if !ok {
		return nil, errors.New("not bytes")
	}
	return mem.BufferSlice{mem.SliceBuffer(raw)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	message, ok := v.(proto.Message)
	if !ok {
		return errors.New("not a message")
	}
	return proto.Unmarshal(data.Materialize(), message) //nolint:wrapcheck // gRPC wraps it
}

func field(number protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), value)
}

func TestRequestsThatCannotBeDecoded(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	const bad = "a\xff\xfeb"
	for name, c := range map[string]struct {
		method  string
		request []byte
		field   string
	}{
		"data":             {pealv1.ControlService_Broadcast_FullMethodName, field(1, bad), "data"},
		"event":            {pealv1.ControlService_Broadcast_FullMethodName, append(field(1, "hi"), field(2, bad)...), "event"},
		"the first of two": {pealv1.ControlService_Broadcast_FullMethodName, append(field(2, bad), field(1, bad)...), "event"},
		"user_id":          {pealv1.ControlService_SendToUser_FullMethodName, append(field(2, "hi"), field(1, bad)...), "user_id"},
		"prefix":           {pealv1.ControlService_ListUsers_FullMethodName, field(3, bad), "prefix"},
		"page_token":       {pealv1.ControlService_ListUsers_FullMethodName, field(2, bad), "page_token"},
		"token's user":     {pealv1.ControlService_CreateToken_FullMethodName, field(1, bad), "user_id"},
		"cut off":          {pealv1.ControlService_Broadcast_FullMethodName, field(1, "hello")[:4], ""},
		"no protobuf":      {pealv1.ControlService_Broadcast_FullMethodName, []byte("\xff\xff\xff"), ""},
		"JSON":             {pealv1.ControlService_Broadcast_FullMethodName, []byte(`{"data":"hi"}`), ""},
		"cut inside ttl":   {pealv1.ControlService_CreateToken_FullMethodName, append(field(1, "a"), field(2, "\x08")...), ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := p.conn.Invoke(t.Context(), c.method, c.request, &pealv1.BroadcastResponse{}, grpc.ForceCodecV2(rawCodec{}))
			f := failureOf(t, err)
			if f.code != codes.InvalidArgument {
				t.Errorf("%+v", f)
			}
			if c.field == "" {
				if f.reason != "INVALID_REQUEST" || !strings.Contains(f.message, "peal.v1.") {
					t.Errorf("%+v", f)
				}
				return
			}
			want := c.field + " is not valid UTF-8"
			if f.reason != "INVALID_FIELD" || f.message != want || len(f.fields) != 1 || f.fields[c.field] != want {
				t.Errorf("%+v, want %q", f, want)
			}
		})
	}
}

// A stream decodes as unary calls do; reflection is the one there is.
func TestStreamRequestsThatCannotBeDecoded(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	stream, err := p.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName, grpc.ForceCodecV2(rawCodec{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg(field(1, "a\xff")); err != nil {
		t.Fatal(err)
	}
	f := failureOf(t, stream.RecvMsg(&reflectionv1.ServerReflectionResponse{}))
	if f.code != codes.InvalidArgument || f.fields["host"] != "host is not valid UTF-8" {
		t.Errorf("%+v", f)
	}
}

func TestRequestsBeyondTheLimit(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	_, err := p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: strings.Repeat("x", control.MaxRequest+1)})
	if f := failureOf(t, err); f.code != codes.ResourceExhausted || !strings.Contains(f.message, "4194304") {
		t.Errorf("%+v", f)
	}
}

// Whoever may not call learns just that, whatever the request is.
func TestStrangersAreRefusedFirst(t *testing.T) {
	p := start(t, control.Config{Tokens: []control.Token{{Name: "shop", Token: "s3cret"}}}, startBroker(t), nil)
	err := p.conn.Invoke(context.WithoutCancel(t.Context()), pealv1.ControlService_Broadcast_FullMethodName, field(1, "\xff"),
		&pealv1.BroadcastResponse{}, grpc.ForceCodecV2(rawCodec{}))
	if f := failureOf(t, err); f.code != codes.Unauthenticated {
		t.Errorf("%+v", f)
	}
}
