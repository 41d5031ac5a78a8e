package rest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// queryCall describes an RPC that REST maps to GET or DELETE. The path and the query
// contain its request.
type queryCall struct {
	// request is an empty request. Its fields are the query parameters.
	request proto.Message

	// inPath is true if the path determines the request's audience.
	inPath bool

	// everyone is true if that audience is everyone. The path has no variable for it.
	everyone bool

	// longLived is true for a call that lasts until its caller cancels it.
	longLived bool
}

// queryCalls returns the RPCs that REST maps to GET or DELETE, keyed by the routeKey of
// their method and path. The proto's descriptors don't contain the HTTP rules, so
// queryCalls reads them from document, the Swagger document generated from the same
// rules.
func queryCalls(document string) (map[string]queryCall, error) {
	var parsed struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		} `json:"paths"`
	}
	if err := json.Unmarshal([]byte(document), &parsed); err != nil {
		return nil, fmt.Errorf("reading the OpenAPI document: %w", err)
	}

	service := pealv1.File_peal_v1_control_proto.Services().ByName("ControlService")
	calls := make(map[string]queryCall)

	for path, operations := range parsed.Paths {
		for _, verb := range []string{http.MethodGet, http.MethodDelete} {
			operation, ok := operations[strings.ToLower(verb)]
			if !ok {
				continue
			}

			call, err := queryCallOf(service, operation.OperationID, path)
			if err != nil {
				return nil, err
			}

			calls[routeKey(verb, path)] = call
		}
	}

	return calls, nil
}

// queryCallOf returns the queryCall for the operation with the given id in an OpenAPI
// document. If an RPC has several paths, the ids of its operations end in a number.
func queryCallOf(service protoreflect.ServiceDescriptor, id, path string) (queryCall, error) {
	name := strings.TrimRight(strings.TrimPrefix(id, string(service.Name())+"_"), "0123456789")

	method := service.Methods().ByName(protoreflect.Name(name))
	if method == nil {
		return queryCall{}, fmt.Errorf("the OpenAPI document has the unknown operation %q", id)
	}

	request, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
	if err != nil {
		return queryCall{}, fmt.Errorf("finding the request of %s: %w", name, err)
	}

	everyone := path == broadcastPath || strings.HasPrefix(path, broadcastPath+"/")

	return queryCall{
		request:   request.New().Interface(),
		inPath:    everyone || strings.Contains(path, "{"),
		everyone:  everyone,
		longLived: method.IsStreamingServer(),
	}, nil
}

// broadcastPath is the path of calls that concern everyone. Calls whose path starts
// with it have a field that selects everyone, but the gateway can't set that field from
// the path.
const broadcastPath = "/v1/broadcast"

// setEveryone adds the field that selects everyone to the query of a call.
func (c queryCall) setEveryone(r *http.Request) *http.Request {
	query := url.Values{"everyone": {"true"}}.Encode()
	if r.URL.RawQuery != "" {
		query += "&" + r.URL.RawQuery
	}

	changed := *r
	address := *r.URL
	address.RawQuery = query
	changed.URL = &address

	return &changed
}

// routeKey returns the method and the path, without the names of the path's variables.
// The gateway and the OpenAPI document write those differently.
func routeKey(method, path string) string {
	var key strings.Builder

	key.WriteString(method + " ")

	for path != "" {
		before, after, found := strings.Cut(path, "{")
		key.WriteString(before)

		if found {
			key.WriteString("{}")
		}

		_, path, _ = strings.Cut(after, "}")
	}

	return key.String()
}

// checkQuery rejects query parameters that are unknown or malformed. Params holds the
// fields that the path sets.
func (c queryCall) checkQuery(r *http.Request, params map[string]string) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return malformedQuery(err)
	}

	check := newQueryCheck(c.request)
	check.params, check.inPath = params, c.inPath

	if invalid := check.parameters(query); len(invalid) > 0 {
		return apierror.Invalid(invalid[:min(len(invalid), apierror.MaxFields)]...)
	}

	return nil
}

// queryCheck checks the parameters of one query.
type queryCheck struct {
	request proto.Message // nil for a call whose request is in the body
	params  map[string]string
	inPath  bool // the path determines the audience
	seen    map[protoreflect.FieldNumber]bool
	chosen  map[protoreflect.Name]string // by oneof; the field that was set
}

func newQueryCheck(request proto.Message) *queryCheck {
	return &queryCheck{request: request, seen: make(map[protoreflect.FieldNumber]bool), chosen: make(map[protoreflect.Name]string)}
}

// parameters returns the parameters that are unknown or malformed.
func (c *queryCheck) parameters(query url.Values) (invalid []apierror.Field) {
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if field, problem := c.parameter(name, query[name]); problem != "" {
			invalid = append(invalid, apierror.Field{Name: field, Problem: problem})
		}
	}

	return invalid
}

// parameter returns the name of the field that a query parameter sets and, if the
// parameter is invalid, a description of the problem.
func (c *queryCheck) parameter(name string, values []string) (fieldName, problem string) {
	if c.request == nil || c.request.ProtoReflect().Descriptor().Fields().Len() == 0 {
		return apierror.Printable(name), "is in the query, but this call has no query parameters"
	}

	field := fieldNamed(c.request, name)
	if field == nil {
		return apierror.Printable(name), "is not a parameter of this call"
	}

	name = field.TextName()
	oneof := field.ContainingOneof()
	defer func() {
		c.seen[field.Number()] = true
		if oneof != nil {
			c.chosen[oneof.Name()] = name
		}
	}()

	if _, ok := c.params[name]; ok || c.inPath && oneof != nil && !oneof.IsSynthetic() && oneof.Name() == "audience" {
		return name, "is set by the path and must not be in the query"
	}

	switch {
	case !utf8.ValidString(strings.Join(values, "")):
		return name, apierror.NotUTF8
	case len(values) > 1 && !field.IsList() || c.seen[field.Number()]:
		return name, apierror.MoreThanOnce
	case oneof != nil && c.chosen[oneof.Name()] != "":
		return name, cannotBeCombined(c.chosen[oneof.Name()])
	case !c.parses(name, values):
		return name, fmt.Sprintf("is %.80q; want %s", values[0], requirement(field))
	}

	return name, ""
}

// parses reports whether the gateway accepts the values of a field.
func (c *queryCheck) parses(name string, values []string) bool {
	message := c.request.ProtoReflect().New().Interface()

	return runtime.PopulateQueryParameters(message, url.Values{name: values}, utilities.NewDoubleArray(nil)) == nil
}
