package control

import (
	"context"
	"fmt"
	"slices"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// gRPC answers INTERNAL for a request that can't be decoded, such as one with
// a string that is not UTF-8, and protobuf doesn't say which field it was. The
// caller is to get INVALID_ARGUMENT with the field's name: so requests are
// decoded through a *decoding, which gRPC takes for the message and which the
// codec knows.

// decoding is a message to decode into, and what was wrong with its bytes.
type decoding struct {
	into proto.Message
	err  error
}

// decodeWith decodes the next message into v with dec, which is gRPC's.
func decodeWith(dec func(any) error, v any) error {
	into, ok := v.(proto.Message)
	if !ok {
		return dec(v)
	}
	d := &decoding{into: into}
	if err := dec(d); err != nil {
		return err
	}
	return d.err
}

type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	d, ok := v.(*decoding)
	if !ok {
		return c.CodecV2.Unmarshal(data, v) //nolint:wrapcheck // gRPC's own, for gRPC
	}
	if err := c.CodecV2.Unmarshal(data, d.into); err != nil {
		d.err = undecodable(data.Materialize(), d.into.ProtoReflect().Descriptor())
	}
	return nil
}

func undecodable(data []byte, message protoreflect.MessageDescriptor) error {
	if field := badString(data, message); field != "" {
		return invalid(fieldError{field, notUTF8})
	}
	return refuse(codes.InvalidArgument, reasonInvalidRequest, fmt.Sprintf("the request is no encoding of %s", message.FullName()))
}

// badString names the first field of an encoded message whose string is not
// UTF-8, or returns "".
func badString(data []byte, message protoreflect.MessageDescriptor) string {
	for len(data) > 0 {
		number, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return ""
		}
		data = data[n:]
		if n = protowire.ConsumeFieldValue(number, typ, data); n < 0 {
			return ""
		}
		value := data[:n]
		data = data[n:]
		field := message.Fields().ByNumber(number)
		if field == nil || typ != protowire.BytesType {
			continue
		}
		value, _ = protowire.ConsumeBytes(value)
		switch field.Kind() {
		case protoreflect.StringKind:
			if !utf8.Valid(value) {
				return field.TextName()
			}
		case protoreflect.MessageKind:
			if inner := badString(value, field.Message()); inner != "" {
				return field.TextName() + "." + inner
			}
		default:
		}
	}
	return ""
}

// registrar registers services whose unary methods decode by decodeWith.
type registrar struct{ to grpc.ServiceRegistrar }

// RegisterService implements grpc.ServiceRegistrar.
func (r registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	decoding := *desc
	decoding.Methods = slices.Clone(desc.Methods)
	for i, m := range desc.Methods {
		decoding.Methods[i].Handler = decodingHandler(m.Handler)
	}
	r.to.RegisterService(&decoding, impl)
}

// decodingHandler is handler, but for what is wrong with a request being said
// by the last interceptor instead of before the first: who may not call at all
// learns just that.
func decodingHandler(handler grpc.MethodHandler) grpc.MethodHandler {
	return func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		var undecoded error
		return handler(srv, ctx,
			func(v any) error {
				undecoded = decodeWith(dec, v)
				return nil
			},
			func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				return interceptor(ctx, req, info, func(ctx context.Context, req any) (any, error) {
					if undecoded != nil {
						return nil, undecoded
					}
					return next(ctx, req)
				})
			})
	}
}

// decodingStream is a stream whose messages are decoded by decodeWith.
type decodingStream struct{ grpc.ServerStream }

// RecvMsg implements grpc.ServerStream.
func (s decodingStream) RecvMsg(m any) error { return decodeWith(s.ServerStream.RecvMsg, m) }
