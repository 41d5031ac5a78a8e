package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// MaxBatch is the maximum number of messages in a batch.
const MaxBatch = 1000

// A message in a batch that isn't valid must not affect the others. So the body of a
// batch is decoded message by message. In place of a message that can't be decoded, the
// call gets an empty one, which it rejects because it has no audience. The gateway then
// replaces the error in the response.

// bodyKey is the context key of the *requestBody of a call.
type bodyKey struct{}

// withBody adds the body of a call to its context, for [replaceErrors].
func withBody(ctx context.Context, r *http.Request) context.Context {
	if body, ok := r.Body.(*requestBody); ok {
		return context.WithValue(ctx, bodyKey{}, body)
	}

	return ctx
}

// replaceErrors replaces the errors for the messages in a batch that could not be decoded.
func replaceErrors(ctx context.Context, _ http.ResponseWriter, response proto.Message) error {
	batch, ok := response.(*pealv1.PublishBatchResponse)
	body, hasBody := ctx.Value(bodyKey{}).(*requestBody)

	if !ok || !hasBody {
		return nil
	}

	body.rejected.Replace(batch)

	return nil
}

// BatchError holds the errors for the messages in a batch that could not be
// decoded, by index.
type BatchError map[int]*apierror.Error

// Error implements error.
func (e BatchError) Error() string { return fmt.Sprintf("%d malformed messages", len(e)) }

// Replace replaces the results for these messages.
func (e BatchError) Replace(batch *pealv1.PublishBatchResponse) {
	for i, rejected := range e {
		if results := batch.GetResults(); i < len(results) {
			results[i] = &pealv1.PublishResult{ErrorValue: &pealv1.PublishResult_Error{Error: PublishError(rejected)}}
		}
	}
}

// CheckBatch returns the error for a batch of n messages; nil if n is valid.
func CheckBatch(n int) error {
	if n > 0 && n <= MaxBatch {
		return nil
	}

	return apierror.Invalid(apierror.Field{Name: "messages", Problem: fmt.Sprintf("has %d messages; want 1 to %d", n, MaxBatch)})
}

// PublishError returns e as the error for one message.
func PublishError(e *apierror.Error) *pealv1.PublishError {
	converted := &pealv1.PublishError{Code: int32(e.Code), Message: e.Message, Reason: e.Reason}
	for _, f := range e.Fields {
		converted.FieldViolations = append(converted.FieldViolations, &pealv1.FieldViolation{Field: f.Name, Description: f.Sentence()})
	}

	return converted
}

// decodeBatch reads data into batch. It records errors in single messages in b.rejected,
// and returns an error if data as a whole is invalid.
func (b *requestBody) decodeBatch(data []byte, batch *pealv1.PublishBatchRequest) error {
	list, err := batchMessages(data, batch)
	if err != nil {
		return err
	}

	messages, n := elements(list)
	if err := CheckBatch(n); err != nil {
		return err
	}

	for i, encoded := range messages {
		message := new(pealv1.PublishMessageRequest)
		if protojson.Unmarshal(encoded, message) != nil {
			message.Reset()

			if b.rejected == nil {
				b.rejected = make(BatchError)
			}

			b.rejected[i] = apierror.From(diagnose("message", encoded, message))
		}

		batch.Messages = append(batch.GetMessages(), message)
	}

	return nil
}

// lenient accepts names and strings that aren't valid: in a message, they concern only
// that message.
func lenient(data []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// batchMessages returns the list of messages in the JSON of a batch; nil if it is absent.
func batchMessages(data []byte, batch *pealv1.PublishBatchRequest) (list jsontext.Value, err error) {
	dec := lenient(data)
	if opening, err := dec.ReadToken(); err != nil || opening.Kind() != '{' {
		return nil, diagnose("body", data, batch)
	}

	var invalid []apierror.Field

	for seen := false; dec.PeekKind() == '"' && len(invalid) < apierror.MaxFields; {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, diagnose("body", data, batch)
		}

		field := apierror.Field{Name: apierror.Printable(name.String())}

		value, err := dec.ReadValue()

		switch kind := value.Kind(); {
		case err != nil:
			return nil, diagnose("body", data, batch)
		case field.Name != "messages":
			field.Problem = "is not a field of this call"
		case seen:
			field.Problem = apierror.MoreThanOnce
		case kind != '[' && kind != 'n':
			field.Problem = fmt.Sprintf("is %s; want a list of messages", shownJSON([]byte(value)))
		default:
			list, seen = value.Clone(), true

			continue
		}

		invalid = append(invalid, field)
	}

	if len(invalid) > 0 {
		return nil, apierror.Invalid(invalid...)
	}

	if _, err := dec.ReadToken(); err != nil { // the end of the object
		return nil, diagnose("body", data, batch)
	}

	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, diagnose("body", data, batch)
	}

	return list, nil
}

// elements returns the first elements of a list in valid JSON, at most MaxBatch, and the
// number of all elements.
func elements(list jsontext.Value) (first []jsontext.Value, n int) {
	if list.Kind() != '[' {
		return nil, 0
	}

	dec := lenient(list)
	_, _ = dec.ReadToken()

	for dec.PeekKind() != ']' {
		element, err := dec.ReadValue()
		if err != nil {
			return first, n
		}

		if n++; n <= MaxBatch {
			first = append(first, element.Clone())
		}
	}

	return first, n
}
