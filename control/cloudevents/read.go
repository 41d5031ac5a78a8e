// Package cloudevents reads CloudEvents 1.0 from HTTP requests, in the binary, the
// structured and the batched content mode of the HTTP protocol binding 1.0.2.
//
// The CloudEvents SDK's types define which values attributes can have. Reading is done
// here, because the SDK's readers skip what doesn't conform: they ignore repeated headers,
// don't decode percent-encoded headers, replace invalid UTF-8, stop at an empty name,
// accept a member twice, and treat only application/json and text/json as JSON. The SDK's
// events would also bring in github.com/json-iterator/go, which keeps the linker from
// removing unused code, and so makes the program a third larger. Tests check that the SDK
// reads the events as this package does.
package cloudevents

import (
	"bytes"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control/apierror"
)

// The media types of structured and batched requests.
const (
	structuredType = "application/cloudevents+json"
	batchType      = "application/cloudevents-batch+json"
	formatPrefix   = "application/cloudevents"
)

// Request holds the events of one HTTP request.
type Request struct {
	// Batch is true in the batched content mode. Otherwise there is one event.
	Batch bool

	// Events holds the events in order.
	Events []Read
}

// Read is an event that was read, or the error for which it wasn't.
type Read struct {
	Event Event
	Err   error // an *apierror.Error
}

// FromHTTP reads the events of a request with the given header and body. A batch may have
// up to maxBatch events. The error is an *[apierror.Error] and concerns the whole request.
// If only some events of a batch are invalid, FromHTTP returns their errors with the
// others' events.
func FromHTTP(header http.Header, body []byte, maxBatch int) (Request, error) {
	types := header.Values(contentTypeHeader)
	if len(types) > 1 {
		return Request{}, apierror.Invalid(apierror.Field{Name: contentTypeHeader, Problem: apierror.MoreThanOnce})
	}

	media := mediaType(strings.Join(types, ""))

	switch {
	case media == structuredType:
		e, err := fromJSON(withoutMark(body))
		return Request{Events: []Read{{e, err}}}, nil
	case media == batchType:
		events, err := fromBatch(withoutMark(body), maxBatch)
		return Request{Batch: true, Events: events}, err
	case strings.HasPrefix(media, formatPrefix) || !hasAttributes(header):
		return Request{}, unknownMode(strings.Join(types, ""))
	}

	e, err := fromHeader(header, body)

	return Request{Events: []Read{{e, err}}}, nil
}

// mediaType returns the media type of a Content-Type, in lower case. Parameters are left
// out even if they are malformed.
func mediaType(contentType string) string {
	if media, _, err := mime.ParseMediaType(contentType); err == nil {
		return media
	}

	media, _, _ := strings.Cut(contentType, ";")

	return strings.ToLower(strings.TrimSpace(media))
}

// isJSON reports whether data with the given Content-Type is JSON.
func isJSON(contentType string) bool {
	media := mediaType(contentType)

	return media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json")
}

// withoutMark returns body without a byte order mark.
func withoutMark(body []byte) []byte { return bytes.TrimPrefix(body, []byte("\uFEFF")) }

// unknownMode returns the error for a request that has none of the content modes.
func unknownMode(contentType string) error {
	given := "no Content-Type"
	if contentType != "" {
		given = fmt.Sprintf("Content-Type %.80q", strings.ToValidUTF8(contentType, "\uFFFD"))
	}

	err := apierror.New(codes.InvalidArgument, apierror.ReasonMediaType, fmt.Sprintf(
		"the request has %s and no ce- headers; want ce-specversion and other ce- headers, %s, or %s", given, structuredType, batchType))
	err.HTTPStatus = http.StatusUnsupportedMediaType

	return err
}
