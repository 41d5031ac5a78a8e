package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// requestBody is the body of a call. The generated handlers hand it to the
// decoder, and the request with it to the error handler: so it carries what
// was wrong from one to the other.
type requestBody struct {
	io.ReadCloser

	length      int64 // as announced, -1 where it was not
	contentType string
	codings     []string          // the values of Content-Encoding
	inPath      map[string]string // fields that the path gives
	refused     error
}

// jsonMarshaler is protojson: its output is the same bytes in every build,
// which protojson's own is not on purpose, and its input is one message and
// nothing else.
type jsonMarshaler struct{ runtime.JSONPb }

func restJSON() *jsonMarshaler { return &jsonMarshaler{} }

// Marshal implements runtime.Marshaler.
func (*jsonMarshaler) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case proto.Message:
		return encode(v)
	// What streams consist of; the gateway ends the line.
	case map[string]any:
		if message, ok := v["result"].(proto.Message); ok {
			return encodeAs("result", message)
		}
	case map[string]proto.Message:
		return encodeAs("error", v["error"])
	}
	return nil, fmt.Errorf("%T is no message", v)
}

func encodeAs(name string, message proto.Message) ([]byte, error) {
	encoded, err := encode(message)
	if err != nil {
		return nil, err
	}
	return slices.Concat([]byte(`{"`+name+`":`), bytes.TrimSpace(encoded), []byte("}")), nil
}

func encode(message proto.Message) ([]byte, error) {
	// An error's details have many fields that are empty and say nothing.
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

// NewDecoder implements runtime.Marshaler for the body of a call.
func (*jsonMarshaler) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		body, ok := r.(*requestBody)
		message, isMessage := v.(proto.Message)
		if !ok || !isMessage {
			return fmt.Errorf("%T into %T is not what is decoded here", r, v)
		}
		body.refused = body.decode(message)
		return body.refused
	})
}

// decode reads the body into message. No body at all is an empty message: what
// it lacks is said by the call itself.
func (b *requestBody) decode(message proto.Message) error {
	if b.length > MaxRequest {
		return tooLarge()
	}
	data, err := io.ReadAll(b)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return tooLarge()
		}
		return refuse(codes.InvalidArgument, reasonInvalidRequest, "the body could not be read to its end")
	}
	if bytes.HasPrefix(data, []byte("\uFEFF")) {
		// Spaces are no part of JSON's values, and keep the offsets that
		// errors name.
		copy(data, "   ")
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	if protojson.Unmarshal(data, message) != nil {
		return unreadable(data, message)
	}
	return b.checkPath(message)
}

// checkPath refuses fields that the path gives already, and would win over.
func (b *requestBody) checkPath(message proto.Message) error {
	fields := message.ProtoReflect().Descriptor().Fields()
	for _, name := range slices.Sorted(maps.Keys(b.inPath)) {
		if field := fields.ByTextName(name); field != nil && message.ProtoReflect().Has(field) {
			return invalid(fieldError{name, "is in the path, and not to be in the body too"})
		}
	}
	return nil
}

func tooLarge() error {
	err := refuse(codes.ResourceExhausted, reasonRequestTooLarge, fmt.Sprintf("the body is longer than %d bytes", MaxRequest))
	err.httpStatus = http.StatusRequestEntityTooLarge
	return err
}

// unreadable finds what protojson did not like in data; what protojson says
// itself is a text that changes from build to build.
func unreadable(data []byte, message proto.Message) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		return malformed(err)
	}
	if object == nil {
		return malformed(&json.UnmarshalTypeError{Value: "null"})
	}
	wrong, err := wrongFields(data, message)
	switch {
	case err != nil:
		return malformed(err)
	case len(wrong) == 0:
		return refuse(codes.InvalidArgument, reasonInvalidRequest, fmt.Sprintf("the body is no %s in JSON", message.ProtoReflect().Descriptor().Name()))
	}
	return invalid(wrong...)
}

func malformed(err error) error {
	text := "the body is not JSON"
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		text = fmt.Sprintf("the body is not JSON: %s (byte %d)", syntax.Error(), syntax.Offset)
	} else if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		text = fmt.Sprintf("the body is a JSON %s, an object is accepted", wrong.Value)
	}
	return refuse(codes.InvalidArgument, reasonInvalidRequest, text)
}

// wrongFields tries the fields of the object in data one by one.
func wrongFields(data []byte, message proto.Message) ([]fieldError, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("reading the object: %w", err)
	}
	var wrong []fieldError
	seen := make(map[protoreflect.FieldNumber]bool)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("reading a name: %w", err)
		}
		key, _ := token.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("reading a value: %w", err)
		}
		field := fieldNamed(message, key)
		switch {
		case field == nil:
			wrong = append(wrong, fieldError{madeUp(key), "is no field of this call"})
		case seen[field.Number()]:
			wrong = append(wrong, fieldError{field.TextName(), moreThanOnce})
		case !utf8.Valid(value):
			wrong = append(wrong, fieldError{field.TextName(), notUTF8})
		default:
			one := append(append([]byte(`{"`+field.JSONName()+`":`), value...), '}')
			if protojson.Unmarshal(one, message.ProtoReflect().New().Interface()) != nil {
				wrong = append(wrong, fieldError{field.TextName(), unfit(field, value)})
			}
		}
		if field != nil {
			seen[field.Number()] = true
		}
		if len(wrong) == maxWrong {
			break
		}
	}
	return wrong, nil
}

// maxWrong bounds how many fields an error speaks of.
const maxWrong = 10

// fieldNamed is the field of message that JSON calls name, or nil.
func fieldNamed(message proto.Message, name string) protoreflect.FieldDescriptor {
	fields := message.ProtoReflect().Descriptor().Fields()
	if field := fields.ByJSONName(name); field != nil {
		return field
	}
	return fields.ByTextName(name)
}

// unfit says what is wrong with a value that field does not take.
func unfit(field protoreflect.FieldDescriptor, value []byte) string {
	// What else could be wrong with a string: half of a surrogate pair.
	if field.Kind() == protoreflect.StringKind && !field.IsList() && value[0] == '"' {
		return "has an escape that stands for no character"
	}
	return wanted(field)
}

// wanted says what field takes.
func wanted(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsList() && field.Kind() == protoreflect.StringKind:
		return "has to be a list of JSON strings"
	case field.Kind() == protoreflect.StringKind:
		return "has to be a JSON string"
	case field.Kind() == protoreflect.Int32Kind:
		return "has to be a whole number of 32 bits"
	case field.Kind() == protoreflect.MessageKind && field.Message().FullName() == "google.protobuf.Duration":
		return `has to be a duration in seconds such as "3600s"`
	}
	return "has to be of type " + field.Kind().String()
}

// madeUp is a name that a caller made up, fit to be repeated.
func madeUp(name string) string {
	const most = 80
	if len(name) > most {
		name = name[:most] + "…"
	}
	return strings.ToValidUTF8(name, "\uFFFD")
}
