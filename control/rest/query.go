package rest

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// getCall describes an RPC that REST maps to GET.
type getCall struct {
	// request is an empty request, whose fields are the query parameters.
	request proto.Message

	// inPath holds the fields that any path of the RPC sets. They aren't query
	// parameters.
	inPath map[protoreflect.Name]bool

	// longLived is true for a call that lasts until its caller cancels it.
	longLived bool
}

// getCalls returns the RPCs that REST maps to GET, keyed by the routeKey of their
// path. The proto's descriptors don't contain the HTTP rules. So getCalls reads
// them from document, the Swagger document that is generated from the same rules.
func getCalls(document string) (map[string]getCall, error) {
	var parsed struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		} `json:"paths"`
	}
	if err := json.Unmarshal([]byte(document), &parsed); err != nil {
		return nil, fmt.Errorf("reading the OpenAPI document: %w", err)
	}

	calls := make(map[string]getCall)
	inPath := make(map[protoreflect.Name]map[protoreflect.Name]bool) // by RPC

	for path, operations := range parsed.Paths {
		get, ok := operations["get"]
		if !ok {
			continue
		}

		method, err := methodOf(get.OperationID)
		if err != nil {
			return nil, err
		}

		request, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
		if err != nil {
			return nil, fmt.Errorf("finding the request of %s: %w", method.Name(), err)
		}

		if inPath[method.Name()] == nil {
			inPath[method.Name()] = make(map[protoreflect.Name]bool)
		}

		call := getCall{request.New().Interface(), inPath[method.Name()], method.IsStreamingServer()}
		calls[routeKey(path)] = call

		for variable := range variables(path) {
			if field := fieldNamed(call.request, variable); field != nil {
				call.inPath[field.Name()] = true
			}
		}
	}

	return calls, nil
}

// methodOf returns the RPC of an operation. If the RPC has several paths, their
// operations are numbered from the second one on.
func methodOf(operation string) (protoreflect.MethodDescriptor, error) {
	service := pealv1.File_peal_v1_control_proto.Services().ByName("ControlService")
	name := strings.TrimRight(strings.TrimPrefix(operation, string(service.Name())+"_"), "0123456789")

	method := service.Methods().ByName(protoreflect.Name(name))
	if method == nil {
		return nil, fmt.Errorf("the OpenAPI document has the unknown operation %q", operation)
	}

	return method, nil
}

// routeKey returns path without the names of its variables, which the gateway
// and the OpenAPI document write differently.
func routeKey(path string) string {
	var key strings.Builder

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

// variables yields the names of the variables in path.
func variables(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for {
			_, rest, found := strings.Cut(path, "{")
			if !found {
				return
			}

			name, rest, _ := strings.Cut(rest, "}")
			if !yield(name) {
				return
			}

			path = rest
		}
	}
}

// checkQuery rejects query parameters that are unknown or malformed. Params are
// the fields that the path sets.
func (c getCall) checkQuery(r *http.Request, params map[string]string) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return apierror.New(codes.InvalidArgument, apierror.ReasonInvalidRequest, fmt.Sprintf("malformed query: %v", err))
	}

	check := queryCheck{
		getCall: c,
		params:  params,
		seen:    make(map[protoreflect.FieldNumber]bool),
		chosen:  make(map[protoreflect.Name]string),
	}

	var invalid []apierror.Field

	for _, name := range slices.Sorted(maps.Keys(query)) {
		if field, problem := check.parameter(name, query[name]); problem != "" {
			invalid = append(invalid, apierror.Field{Name: field, Problem: problem})
		}
	}

	if len(invalid) > 0 {
		return apierror.Invalid(invalid[:min(len(invalid), apierror.MaxFields)]...)
	}

	return nil
}

// queryCheck checks the parameters of one query.
type queryCheck struct {
	getCall // has no request for a call that isn't a GET

	params map[string]string
	seen   map[protoreflect.FieldNumber]bool
	chosen map[protoreflect.Name]string // by oneof, the field that was set
}

// parameter returns the field that a query parameter sets, and what is wrong
// with the parameter, or "".
func (c *queryCheck) parameter(name string, values []string) (fieldName, problem string) {
	if c.request == nil || c.request.ProtoReflect().Descriptor().Fields().Len() == 0 {
		return printable(name), "is in the query, but this call has no query parameters"
	}

	field := fieldNamed(c.request, name)
	if field == nil {
		return printable(name), "is not a parameter of this call"
	}

	name = field.TextName()
	oneof := field.ContainingOneof()
	defer func() {
		c.seen[field.Number()] = true
		if oneof != nil {
			c.chosen[oneof.Name()] = name
		}
	}()

	if _, ok := c.params[name]; ok {
		return name, "is set by the path and must not be in the query"
	}

	if c.inPath[field.Name()] {
		return name, "is set by another path of this call and must not be in the query"
	}

	switch {
	case !utf8.ValidString(strings.Join(values, "")):
		return name, apierror.NotUTF8
	case len(values) > 1 || c.seen[field.Number()]:
		return name, apierror.MoreThanOnce
	case oneof != nil && c.chosen[oneof.Name()] != "":
		return name, "can't be combined with " + c.chosen[oneof.Name()] + "; set only one of them"
	case !c.parses(name, values):
		return name, fmt.Sprintf("is %.80q and %s", values[0], requirement(field))
	}

	return name, ""
}

// parses reports whether the gateway accepts the values of a field.
func (c *queryCheck) parses(name string, values []string) bool {
	message := c.request.ProtoReflect().New().Interface()

	return runtime.PopulateQueryParameters(message, url.Values{name: values}, utilities.NewDoubleArray(nil)) == nil
}
