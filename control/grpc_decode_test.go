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
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// rawCodec sends raw bytes. Go's protobuf library refuses to encode the bytes
// that these tests send, but libraries for some other languages don't.
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
	return proto.Unmarshal(data.Materialize(), message) //nolint:wrapcheck // gRPC wraps it.
}

func field(number protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), value)
}

func TestInvalidEncodings(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	const bad = "a\xff\xfeb"

	for name, c := range map[string]struct {
		method  string
		request []byte
		field   string
	}{
		"data":          {pealv1.ControlService_Broadcast_FullMethodName, field(1, bad), "data"},
		"event":         {pealv1.ControlService_Broadcast_FullMethodName, append(field(1, "hi"), field(2, bad)...), "event"},
		"first of two":  {pealv1.ControlService_Broadcast_FullMethodName, append(field(2, bad), field(1, bad)...), "event"},
		"user_id":       {pealv1.ControlService_SendToUser_FullMethodName, append(field(2, "hi"), field(1, bad)...), "user_id"},
		"prefix":        {pealv1.ControlService_ListUsers_FullMethodName, field(3, bad), "prefix"},
		"page_token":    {pealv1.ControlService_ListUsers_FullMethodName, field(2, bad), "page_token"},
		"token's user":  {pealv1.ControlService_CreateToken_FullMethodName, field(1, bad), "user_id"},
		"truncated":     {pealv1.ControlService_Broadcast_FullMethodName, field(1, "hello")[:4], ""},
		"no protobuf":   {pealv1.ControlService_Broadcast_FullMethodName, []byte("\xff\xff\xff"), ""},
		"JSON":          {pealv1.ControlService_Broadcast_FullMethodName, []byte(`{"data":"hi"}`), ""},
		"truncated ttl": {pealv1.ControlService_CreateToken_FullMethodName, append(field(1, "a"), field(2, "\x08")...), ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := p.conn.Invoke(t.Context(), c.method, c.request, &pealv1.BroadcastResponse{}, grpc.ForceCodecV2(rawCodec{}))
			f := failureOf(t, err)
			if f.code != codes.InvalidArgument {
				t.Errorf("error %+v, want INVALID_ARGUMENT", f)
			}

			if c.field == "" {
				if f.reason != "INVALID_REQUEST" || !strings.Contains(f.message, "peal.v1.") {
					t.Errorf("error %+v, want INVALID_REQUEST with the message type", f)
				}

				return
			}

			want := c.field + " is not valid UTF-8"
			if f.reason != "INVALID_FIELD" || f.message != want || len(f.fields) != 1 || f.fields[c.field] != want {
				t.Errorf("error %+v, want %q", f, want)
			}
		})
	}
}

// Streaming calls report decoding errors in the same way as unary calls.
// Reflection is a streaming call.
func TestInvalidEncodingOnAStream(t *testing.T) {
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

func TestRequestOverTheLimit(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	_, err := p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: strings.Repeat("x", control.MaxRequest+1)})
	if f := failureOf(t, err); f.code != codes.ResourceExhausted || !strings.Contains(f.message, "4194304") {
		t.Errorf("%+v", f)
	}
}

// An unauthenticated caller learns only that it is unauthenticated, even if its
// request is invalid.
func TestAuthenticationPrecedesDecoding(t *testing.T) {
	p := start(t, control.Config{Tokens: []control.Token{{Name: "shop", Token: "s3cret"}}}, startBroker(t), nil)
	err := p.conn.Invoke(context.WithoutCancel(t.Context()), pealv1.ControlService_Broadcast_FullMethodName, field(1, "\xff"),
		&pealv1.BroadcastResponse{}, grpc.ForceCodecV2(rawCodec{}))
	if f := failureOf(t, err); f.code != codes.Unauthenticated {
		t.Errorf("%+v", f)
	}
}

// FuzzDecode checks that a request that isn't a valid message is rejected with
// INVALID_ARGUMENT.
func FuzzDecode(f *testing.F) {
	f.Add(field(1, "alice"))
	f.Add(append(field(1, "\xff"), field(2, "\x08\x01")...))
	p := start(f, control.Config{}, &fakeBroker{}, fakeMinter{})
	f.Fuzz(func(t *testing.T, request []byte) {
		err := p.conn.Invoke(t.Context(), pealv1.ControlService_CreateToken_FullMethodName, request,
			&pealv1.CreateTokenResponse{}, grpc.ForceCodecV2(rawCodec{}))
		if err != nil && status.Code(err) != codes.InvalidArgument {
			t.Error(err)
		}
	})
}
