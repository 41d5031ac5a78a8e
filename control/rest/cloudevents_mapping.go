package rest

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/peald/peald/control/apierror"
	"github.com/peald/peald/control/cloudevents"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

const (
	// extensionPrefix is the prefix of the extension attributes that set fields of a
	// message.
	extensionPrefix = "peald"

	// deliverParameter is the query parameter that determines what browsers receive.
	deliverParameter = "deliver"

	// setByEvent is the problem with a query parameter for a field that each event has a
	// value of its own for.
	setByEvent = "is set by the event and must not be in the query"
	// setByQuery is the problem with an attribute for a field that is in the query.
	setByQuery = "is set by the query and must not be in the event"
)

// extensionFields returns the fields of a message that extension attributes set, by the
// names of the attributes.
func extensionFields() map[string]string {
	fields := make(map[string]string)
	for _, field := range []string{
		"topic", "user_id", "everyone", "exclude_user_id", "event", "conflate_key", "ttl", "retain", "final",
	} {
		fields[extensionPrefix+strings.ReplaceAll(field, "_", "")] = field
	}

	return fields
}

// eventMapping maps the events of a request to messages.
type eventMapping struct {
	// defaults holds the fields that the query sets.
	defaults *pealv1.PublishMessageRequest

	// whole is true if the whole event is delivered, not only its data.
	whole bool

	extensions map[string]string // extensionFields
}

// newEventMapping returns the mapping for a request with the given query.
func newEventMapping(rawQuery string) (*eventMapping, error) {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, malformedQuery(err)
	}

	m := &eventMapping{defaults: &pealv1.PublishMessageRequest{}, extensions: extensionFields()}

	var invalid []apierror.Field

	switch values := query[deliverParameter]; {
	case len(values) == 0:
	case len(values) > 1:
		invalid = append(invalid, apierror.Field{Name: deliverParameter, Problem: apierror.MoreThanOnce})
	case values[0] == "event":
		m.whole = true
	case values[0] != "data":
		invalid = append(invalid, apierror.Field{Name: deliverParameter, Problem: fmt.Sprintf(`is %.80q; want "data" or "event"`, apierror.Printable(values[0]))})
	}

	delete(query, deliverParameter)

	for _, name := range []string{"data", "idempotency_key", "idempotencyKey"} {
		if query.Has(name) {
			invalid = append(invalid, apierror.Field{Name: name, Problem: setByEvent})
			delete(query, name)
		}
	}

	invalid = append(invalid, newQueryCheck(m.defaults).parameters(query)...)
	if len(invalid) > 0 {
		return nil, apierror.Invalid(invalid[:min(len(invalid), apierror.MaxFields)]...)
	}

	if err := runtime.PopulateQueryParameters(m.defaults, query, utilities.NewDoubleArray(nil)); err != nil {
		return nil, malformedQuery(err)
	}

	return m, nil
}

// eventMessage is the message for an event.
type eventMessage struct {
	request *pealv1.PublishMessageRequest

	// names maps fields of the request to the attributes that they are from.
	names map[string]string
}

// message returns the message for an event.
func (m *eventMapping) message(read cloudevents.Read) (*eventMessage, error) {
	if read.Err != nil {
		return nil, read.Err
	}

	event := read.Event
	request, _ := proto.Clone(m.defaults).(*pealv1.PublishMessageRequest)
	message := &eventMessage{request: request, names: map[string]string{"idempotency_key": "id"}}

	if invalid := m.applyExtensions(&event, message); len(invalid) > 0 {
		return nil, apierror.Invalid(invalid...)
	}

	if request.GetAudience() == nil && len(request.GetTopics()) == 0 {
		if event.Subject() == "" {
			return nil, apierror.Invalid(apierror.Field{Name: "subject", Problem: "is missing; set it or the extension attribute " +
				"pealdtopic, pealduserid or pealdeveryone, or the audience in the query"})
		}

		request.Audience = &pealv1.PublishMessageRequest_Topic{Topic: event.Subject()}
		message.names["topic"] = "subject"
	}

	if request.GetEvent() == "" {
		request.Event = event.Type()
		message.names["event"] = "type"
	}

	request.IdempotencyKey = event.Key()

	var err error
	request.Data, err = m.dataOf(&event)

	return message, err
}

// applyExtensions sets the fields of a message that the event's extension attributes
// determine. It returns the attributes that are invalid.
func (m *eventMapping) applyExtensions(event *cloudevents.Event, message *eventMessage) (invalid []apierror.Field) {
	extensions := event.Extensions(extensionPrefix)
	audience := "" // the attribute that determines it

	for _, name := range slices.Sorted(maps.Keys(extensions)) {
		report := func(problem string) {
			invalid = append(invalid, apierror.Field{Name: apierror.Printable(name), Problem: problem})
		}

		field := fieldNamed(message.request, m.extensions[name])
		if field == nil {
			report("is not an attribute that peald knows; want " + strings.Join(slices.Sorted(maps.Keys(m.extensions)), ", "))
			continue
		}

		isAudience := field.ContainingOneof() != nil

		switch {
		case isAudience && audience != "":
			report("can't be combined with " + audience + "; set only one of them")
			continue
		case isAudience && (m.defaults.GetAudience() != nil || len(m.defaults.GetTopics()) > 0), m.defaults.ProtoReflect().Has(field):
			report(setByQuery)
			continue
		case isAudience:
			audience = name
		}

		if setField(message.request, field, extensions[name]) != nil {
			report(fmt.Sprintf("is %.80q; want %s", extensions[name], requirement(field)))
			continue
		}

		message.names[field.TextName()] = name
	}

	return invalid
}

// setField sets a field of message to a value in the form that queries have.
func setField(message proto.Message, field protoreflect.FieldDescriptor, value string) error {
	return runtime.PopulateQueryParameters(message, url.Values{field.TextName(): {value}}, utilities.NewDoubleArray(nil))
}

// dataOf returns what browsers receive.
func (m *eventMapping) dataOf(event *cloudevents.Event) (string, error) {
	if m.whole {
		return event.JSON(extensionPrefix)
	}

	text, err := event.Text()

	switch {
	case errors.Is(err, cloudevents.ErrNoData):
		return "", apierror.Invalid(apierror.Field{Name: "data", Problem: "is missing; to deliver the whole event, add deliver=event to the query"})
	case errors.Is(err, cloudevents.ErrBinary):
		return "", apierror.Invalid(apierror.Field{Name: "data", Problem: fmt.Sprintf(
			"is not valid UTF-8 (datacontenttype %.80q); to deliver the whole event, add deliver=event to the query", event.DataContentType())})
	}

	return text, err
}

// renameIn returns err, an error from a call with the message, with the names of
// attributes in place of the names of fields.
func (m *eventMessage) renameIn(err error) error {
	for _, detail := range status.Convert(err).Details() {
		bad, ok := detail.(*errdetails.BadRequest)
		if !ok {
			continue
		}

		var fields []apierror.Field
		for _, v := range bad.GetFieldViolations() {
			fields = append(fields, m.renamed(v.GetField(), v.GetDescription()))
		}

		if len(fields) > 0 {
			return apierror.Invalid(fields...).Status().Err()
		}
	}

	return err
}

// rename changes e, the error for the message in a batch, as renameIn does.
func (m *eventMessage) rename(e *pealv1.PublishError) {
	var fields []apierror.Field
	for _, v := range e.GetFieldViolations() {
		fields = append(fields, m.renamed(v.GetField(), v.GetDescription()))
	}

	if len(fields) > 0 {
		proto.Reset(e)
		proto.Merge(e, PublishError(apierror.Invalid(fields...)))
	}
}

// renamed returns the field with the given name and description, with the name of the
// attribute that it is from.
func (m *eventMessage) renamed(name, description string) apierror.Field {
	problem := strings.TrimPrefix(description, apierror.Field{Name: name}.Sentence())
	if attribute, ok := m.names[name]; ok {
		name = attribute
	}

	return apierror.Field{Name: name, Problem: problem}
}

func malformedQuery(err error) error {
	return apierror.New(codes.InvalidArgument, apierror.ReasonInvalidRequest, fmt.Sprintf("malformed query: %v", err))
}
