package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// requestBody is the body of a call. The generated handlers pass the body to the
// decoder and the whole request to the error handler. The decoder can therefore pass
// its error to the error handler in the requestBody.
type requestBody struct {
	io.ReadCloser

	length      int64 // the announced length, or -1
	contentType string
	encodings   []string          // values of the Content-Encoding header
	inPath      map[string]string // fields that the path sets
	err         error             // the decoder's error

	rejected BatchError // the messages in a batch that could not be decoded
}

// newRequestBody returns the body of r.
func newRequestBody(r *http.Request) *requestBody {
	return &requestBody{
		ReadCloser:  r.Body,
		length:      r.ContentLength,
		contentType: r.Header.Get("Content-Type"),
		encodings:   r.Header.Values("Content-Encoding"),
	}
}

// checkContentType accepts JSON and the media types that common tools send JSON with.
func (b *requestBody) checkContentType() error {
	if b.contentType == "" {
		return nil
	}

	media, _, err := mime.ParseMediaType(b.contentType)

	switch {
	case err != nil:
	case media == "application/json", strings.HasSuffix(media, "+json"),
		// Sent by curl -d, and by fetch with a string body.
		media == "application/x-www-form-urlencoded", media == "text/plain":
		return nil
	}

	return unsupportedMediaType(fmt.Sprintf("unsupported Content-Type %.80q; want application/json", b.contentType))
}

// checkEncodings rejects a body that is compressed or otherwise encoded.
func (b *requestBody) checkEncodings(header http.Header) error {
	for encoding := range strings.SplitSeq(strings.Join(b.encodings, ","), ",") {
		encoding = strings.TrimSpace(encoding)
		if encoding == "" || strings.EqualFold(encoding, "identity") {
			continue
		}

		header.Set("Accept-Encoding", "identity")

		return unsupportedMediaType(
			fmt.Sprintf("unsupported Content-Encoding %.80q; send the body without an encoding", apierror.Printable(encoding)))
	}

	return nil
}

func unsupportedMediaType(message string) error {
	err := apierror.New(codes.InvalidArgument, apierror.ReasonMediaType, message)
	err.HTTPStatus = http.StatusUnsupportedMediaType

	return err
}

// read returns the whole body.
func (b *requestBody) read() ([]byte, error) {
	if b.length > MaxBody {
		return nil, tooLarge()
	}

	data, err := io.ReadAll(b)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, tooLarge()
		}

		return nil, apierror.New(codes.InvalidArgument, apierror.ReasonInvalidRequest, "the body could not be read completely")
	}

	return data, nil
}

// decode reads the body into message. An empty body decodes to an empty message: the
// call itself reports missing fields.
func (b *requestBody) decode(message proto.Message) error {
	data, err := b.read()
	if err != nil {
		return err
	}

	if bytes.HasPrefix(data, []byte("\uFEFF")) {
		// Replace the byte order mark with spaces. JSON ignores them, and they preserve
		// the offsets in errors.
		copy(data, "   ")
	}

	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}

	if batch, ok := message.(*pealv1.PublishBatchRequest); ok {
		return b.decodeBatch(data, batch)
	}

	if protojson.Unmarshal(data, message) != nil {
		return diagnose("body", data, message)
	}

	return b.checkPath(message)
}

// checkPath rejects fields that the path also sets. The path would override them.
func (b *requestBody) checkPath(message proto.Message) error {
	fields := message.ProtoReflect().Descriptor().Fields()
	for _, name := range slices.Sorted(maps.Keys(b.inPath)) {
		if field := fields.ByTextName(name); field != nil && message.ProtoReflect().Has(field) {
			return apierror.Invalid(apierror.Field{Name: name, Problem: "is set by the path and must not be in the body"})
		}
	}

	return nil
}

func tooLarge() error {
	err := apierror.New(codes.ResourceExhausted, apierror.ReasonRequestTooLarge, fmt.Sprintf("the body exceeds %d bytes", MaxBody))
	err.HTTPStatus = http.StatusRequestEntityTooLarge

	return err
}

// diagnose returns an error that describes why protojson rejected data, which is the part
// of the request that what names. The wording of protojson's own errors differs between
// builds.
func diagnose(what string, data []byte, message proto.Message) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		return malformed(what, err)
	}

	if object == nil {
		return malformed(what, &json.UnmarshalTypeError{Value: "null"})
	}

	fields, err := invalidFields(data, message)

	switch {
	case err != nil:
		return malformed(what, err)
	case len(fields) == 0:
		return apierror.New(codes.InvalidArgument, apierror.ReasonInvalidRequest,
			fmt.Sprintf("the %s is not a valid %s in JSON", what, message.ProtoReflect().Descriptor().Name()))
	}

	return apierror.Invalid(fields...)
}

func malformed(what string, err error) error {
	text := fmt.Sprintf("the %s is not JSON", what)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		text = fmt.Sprintf("the %s is not JSON: %s (byte %d)", what, syntax.Error(), syntax.Offset)
	} else if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		text = fmt.Sprintf("the %s is a JSON %s; want an object", what, wrong.Value)
	}

	return apierror.New(codes.InvalidArgument, apierror.ReasonInvalidRequest, text)
}

// invalidFields decodes the fields of the JSON object in data one by one, and returns
// those that aren't valid for message.
func invalidFields(data []byte, message proto.Message) ([]apierror.Field, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("reading the object: %w", err)
	}

	var invalid []apierror.Field

	seen := make(map[protoreflect.FieldNumber]bool)
	chosen := make(map[protoreflect.Name]string) // by oneof, the field that is set

	for dec.More() && len(invalid) < apierror.MaxFields {
		token, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("reading a name: %w", err)
		}

		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("reading a value: %w", err)
		}

		key, _ := token.(string)

		field := fieldNamed(message, key)
		if field == nil {
			invalid = append(invalid, apierror.Field{Name: apierror.Printable(key), Problem: "is not a field of this call"})
			continue
		}

		problem := problemOf(field, value, message, seen[field.Number()])
		if oneof := field.ContainingOneof(); problem == "" && oneof != nil && string(value) != "null" {
			if other := chosen[oneof.Name()]; other != "" {
				problem = cannotBeCombined(other)
			}

			chosen[oneof.Name()] = field.TextName()
		}

		if problem != "" {
			invalid = append(invalid, apierror.Field{Name: field.TextName(), Problem: problem})
		}

		seen[field.Number()] = true
	}

	return invalid, nil
}

// cannotBeCombined is the problem with a field of a oneof in which another field is set.
func cannotBeCombined(other string) string {
	return "can't be combined with " + other + "; set only one of them"
}

// problemOf describes why value isn't valid for field of message, or returns "".
// Repeated is true if the field was already set.
func problemOf(field protoreflect.FieldDescriptor, value json.RawMessage, message proto.Message, repeated bool) string {
	if repeated {
		return apierror.MoreThanOnce
	}

	if !utf8.Valid(value) {
		return apierror.NotUTF8
	}

	object := slices.Concat([]byte(`{"`+field.JSONName()+`":`), value, []byte("}"))
	if protojson.Unmarshal(object, message.ProtoReflect().New().Interface()) == nil {
		return ""
	}

	// The only possible reason to reject a JSON string is an unpaired surrogate.
	if field.Kind() == protoreflect.StringKind && !field.IsList() && value[0] == '"' {
		return "has an escape that is not a valid character"
	}

	return fmt.Sprintf("is %s; want %s", shownJSON(value), requirement(field))
}

// shownJSON shortens a value that the caller sent, so that an error can include it.
func shownJSON(value json.RawMessage) string {
	var compact bytes.Buffer
	if err := json.Compact(&compact, value); err != nil {
		return "not JSON"
	}

	return apierror.Printable(compact.String())
}

// fieldNamed returns the field of message with the given JSON or proto name, or nil.
func fieldNamed(message proto.Message, name string) protoreflect.FieldDescriptor {
	fields := message.ProtoReflect().Descriptor().Fields()
	if field := fields.ByJSONName(name); field != nil {
		return field
	}

	return fields.ByTextName(name)
}

// requirement describes the value that field must have. It completes "want".
func requirement(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsList() && field.Kind() == protoreflect.StringKind:
		return "a list of JSON strings"
	case field.Kind() == protoreflect.StringKind:
		return "a JSON string"
	case field.Kind() == protoreflect.BoolKind:
		return "true or false"
	case field.Kind() == protoreflect.Int32Kind:
		return "a 32-bit whole number"
	case field.Kind() == protoreflect.MessageKind && field.Message().FullName() == "google.protobuf.Duration":
		return `a duration in seconds, such as "3600s"`
	}

	return "a value of type " + field.Kind().String()
}
