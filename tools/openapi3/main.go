// Command openapi3 completes the generated Swagger 2.0 document in the given directory,
// peald.swagger.json, and writes it as OpenAPI 3 to peald.openapi.json.
//
// It adds the operation that accepts CloudEvents, which has no RPC.
//
// The generator documents every field of a request that isn't in the path as a parameter
// of the query. But where the path determines the audience, the other audiences aren't
// parameters. The command removes these.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: openapi3 DIRECTORY")
		os.Exit(2)
	}

	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "openapi3:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	path := filepath.Join(dir, "peald.swagger.json")

	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}

	var document map[string]any
	if err := json.Unmarshal(data, &document); err != nil {
		return fmt.Errorf("read the Swagger document: %w", err)
	}

	complete(document)

	if err := addCloudEvents(document); err != nil {
		return err
	}

	if data, err = encode(document); err != nil {
		return err
	}

	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}

	converted, err := convert(data)
	if err != nil {
		return err
	}

	return os.WriteFile(filepath.Join(dir, "peald.openapi.json"), converted, 0o644)
}

// complete removes the query parameters for audiences from the operations whose path
// determines the audience.
func complete(document map[string]any) {
	paths, _ := document["paths"].(map[string]any)
	for path, operations := range paths {
		if !strings.Contains(path, "{topic}") && !strings.Contains(path, "{userId}") && !strings.HasPrefix(path, "/v1/broadcast") {
			continue
		}

		byMethod, _ := operations.(map[string]any)
		for _, operation := range byMethod {
			fields, _ := operation.(map[string]any)

			parameters, ok := fields["parameters"].([]any)
			if ok {
				fields["parameters"] = slices.DeleteFunc(parameters, isAudienceInQuery)
			}
		}
	}
}

func isAudienceInQuery(parameter any) bool {
	fields, _ := parameter.(map[string]any)

	return fields["in"] == "query" && slices.Contains([]any{"everyone", "userId", "topic"}, fields["name"])
}

func encode(document any) ([]byte, error) {
	var out bytes.Buffer

	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")

	err := encoder.Encode(document)

	return out.Bytes(), err
}

// convert converts a Swagger 2.0 document to OpenAPI 3.
func convert(data []byte) ([]byte, error) {
	var swagger openapi2.T
	if err := json.Unmarshal(data, &swagger); err != nil {
		return nil, fmt.Errorf("read the Swagger document: %w", err)
	}

	doc, err := openapi2conv.ToV3(&swagger)
	if err != nil {
		return nil, fmt.Errorf("convert to OpenAPI 3: %w", err)
	}

	// The API is on the listener that serves the document.
	doc.Servers = openapi3.Servers{{URL: "/"}}

	// Swagger 2.0 has no scheme for bearer tokens.
	doc.Components.SecuritySchemes["controlToken"] = &openapi3.SecuritySchemeRef{
		Value: openapi3.NewSecurityScheme().WithType("http").WithScheme("bearer").
			WithDescription("A token of control.tokens; none is needed where that is empty."),
	}

	if err := doc.Validate(context.Background()); err != nil {
		return nil, fmt.Errorf("validate the result: %w", err)
	}

	return encode(doc)
}
