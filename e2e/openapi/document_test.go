package openapi_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// servicePrefix is the prefix of all operation IDs.
const servicePrefix = "ControlService_"

// document validates requests and responses against an OpenAPI document. Members
// that the document doesn't list are errors.
type document struct {
	doc    *openapi3.T
	router routers.Router
}

func parse(t *testing.T, text []byte) *document {
	t.Helper()

	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}

	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}

	for _, schema := range doc.Components.Schemas {
		closeObject(schema.Value)
	}

	for _, operation := range operations(doc) {
		for _, response := range operation.Responses.Map() {
			for _, media := range response.Value.Content {
				closeObject(media.Schema.Value)
			}
		}
	}

	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}

	return &document{doc: doc, router: router}
}

// closeObject disallows members that an object's schema doesn't list, unless the
// schema allows them explicitly.
func closeObject(schema *openapi3.Schema) {
	if schema.Type.Is("object") && schema.AdditionalProperties.Has == nil {
		no := false
		schema.AdditionalProperties.Has = &no
	}
}

// operations returns a document's operations by ID.
func operations(doc *openapi3.T) map[string]*openapi3.Operation {
	found := make(map[string]*openapi3.Operation)

	for _, path := range doc.Paths.Map() {
		for _, operation := range path.Operations() {
			found[operation.OperationID] = operation
		}
	}

	return found
}

// ids returns the IDs of all operations, sorted.
func (d *document) ids() []string { return slices.Sorted(maps.Keys(operations(d.doc))) }

// try makes a call to the REST API at url. The response must have the expected
// status and conform to the document. A successful call's request must conform
// as well.
func (d *document) try(t *testing.T, url string, c call) {
	t.Helper()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	request, err := http.NewRequestWithContext(ctx, c.method, url+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}

	if c.body != "" {
		request.Header.Set("Content-Type", cmp.Or(c.contentType, "application/json"))
	}

	request.Header.Set("Authorization", "Bearer "+cmp.Or(c.token, tokenAll))

	input := d.input(t, request)
	if got := input.Route.Operation.OperationID; got != servicePrefix+c.operation {
		t.Fatalf("%s %s is operation %s, want %s", c.method, c.path, got, c.operation)
	}

	if c.status == http.StatusOK {
		if err := openapi3filter.ValidateRequest(ctx, input); err != nil {
			t.Errorf("%s %s succeeds, but doesn't conform to the document: %v", c.method, c.path, err)
		}
	}

	resp, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	// Bodies are a single line, except for streams, where the first line suffices.
	body, err := bufio.NewReader(resp.Body).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("%s %s: %v", c.method, c.path, err)
	}

	if resp.StatusCode != c.status {
		t.Errorf("%s %s %.80s: %s, want %d: %s", c.method, c.path, c.body, resp.Status, c.status, body)
	}

	if err := d.check(input, resp, body); err != nil {
		t.Errorf("%s %s %.80s: %s: %s: %v", c.method, c.path, c.body, resp.Status, body, err)
	}
}

// input returns the validation input for a request, including its operation.
func (d *document) input(t *testing.T, request *http.Request) *openapi3filter.RequestValidationInput {
	t.Helper()

	route, params, err := d.router.FindRoute(request)
	if err != nil {
		t.Fatalf("%s %s: %v", request.Method, request.URL.Path, err)
	}

	return &openapi3filter.RequestValidationInput{
		Request:    request,
		PathParams: params,
		Route:      route,
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true,
			AuthenticationFunc:    checkBearer,
		},
	}
}

// checkBearer returns an error if a request lacks the token that the security
// scheme requires.
func checkBearer(_ context.Context, in *openapi3filter.AuthenticationInput) error {
	if scheme := in.SecurityScheme; scheme.Type != "http" || scheme.Scheme != "bearer" {
		return in.NewError(fmt.Errorf("unexpected security scheme %s %s", scheme.Type, scheme.Scheme))
	}

	if token, ok := strings.CutPrefix(in.RequestValidationInput.Request.Header.Get("Authorization"), "Bearer "); !ok || token == "" {
		return in.NewError(errors.New("no token"))
	}

	return nil
}

// check validates a response whose body is one JSON object.
func (d *document) check(in *openapi3filter.RequestValidationInput, resp *http.Response, body []byte) error {
	if !bytes.HasPrefix(body, []byte("{")) {
		return errors.New("the body is not a JSON object")
	}

	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in,
		Status:                 resp.StatusCode,
		Header:                 resp.Header,
		Options:                in.Options,
	}

	return openapi3filter.ValidateResponse(context.Background(), out.SetBodyBytes(body))
}
