package control

import (
	"context"
	"errors"
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

	"github.com/peald/peald/control/apierror"
	"github.com/peald/peald/control/rest"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// gRPC responds with INTERNAL to a request that can't be decoded, such as one with a
// string that isn't UTF-8, and protobuf's error doesn't name the field. Callers should
// receive INVALID_ARGUMENT with the field's name instead. Requests are therefore
// decoded into a *decodeTarget, which gRPC passes to the codec in place of the message.

// decodeTarget holds a message to decode into and the error from decoding it.
type decodeTarget struct {
	message proto.Message
	err     error
}

// decodeWith decodes the next message into v with dec, gRPC's own decoder.
func decodeWith(dec func(any) error, v any) error {
	message, ok := v.(proto.Message)
	if !ok {
		return dec(v)
	}

	target := &decodeTarget{message: message}
	if err := dec(target); err != nil {
		return err
	}

	return target.err
}

// codec is gRPC's proto codec, which also decodes into a *decodeTarget.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	target, ok := v.(*decodeTarget)
	if !ok {
		return c.CodecV2.Unmarshal(data, v) //nolint:wrapcheck // An error from gRPC, passed back to gRPC.
	}

	if batch, ok := target.message.(*pealv1.PublishBatchRequest); ok {
		target.err = decodeBatch(data.Materialize(), batch)
	} else if err := c.CodecV2.Unmarshal(data, target.message); err != nil {
		target.err = decodeError("request", data.Materialize(), target.message)
	}

	return nil
}

func decodeError(what string, data []byte, message proto.Message) *apierror.Error {
	descriptor := message.ProtoReflect().Descriptor()
	if field := invalidString(data, descriptor); field != "" {
		return apierror.Invalid(apierror.Field{Name: field, Problem: apierror.NotUTF8})
	}

	return apierror.New(codes.InvalidArgument, apierror.ReasonInvalidRequest,
		fmt.Sprintf("the %s is not a valid %s", what, descriptor.FullName()))
}

// invalidString returns the name of the first string field in an encoded message that
// isn't valid UTF-8, or "" if there is none.
func invalidString(data []byte, message protoreflect.MessageDescriptor) string {
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
			if inner := invalidString(value, field.Message()); inner != "" {
				return field.TextName() + "." + inner
			}
		default:
		}
	}

	return ""
}

// registrar registers services so that their unary methods decode requests with
// decodeWith.
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

// decodingHandler wraps handler so that a decoding error is returned after all
// interceptors have run instead of before the first one. A caller that may not call the
// method then learns only that. Errors in single messages of a batch become their results.
func decodingHandler(handler grpc.MethodHandler) grpc.MethodHandler {
	return func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		var decodeErr error

		return handler(srv, ctx,
			func(v any) error {
				decodeErr = decodeWith(dec, v)
				return nil
			},
			func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				return interceptor(ctx, req, info, func(ctx context.Context, req any) (any, error) {
					rejected, partial := errors.AsType[rest.BatchError](decodeErr)
					if decodeErr != nil && !partial {
						return nil, decodeErr
					}

					resp, err := next(ctx, req)
					if batch, ok := resp.(*pealv1.PublishBatchResponse); ok && err == nil {
						rejected.Replace(batch)
					}

					return resp, err
				})
			})
	}
}

// decodingStream is a stream whose messages are decoded with decodeWith.
type decodingStream struct{ grpc.ServerStream }

// RecvMsg implements grpc.ServerStream.
func (s decodingStream) RecvMsg(m any) error { return decodeWith(s.ServerStream.RecvMsg, m) }
