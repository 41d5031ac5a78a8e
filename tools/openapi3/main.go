// Command openapi3 converts the Swagger 2.0 document on standard input to
// OpenAPI 3 on standard output.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "openapi3:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	var swagger openapi2.T
	if err := json.NewDecoder(in).Decode(&swagger); err != nil {
		return fmt.Errorf("read the Swagger document: %w", err)
	}

	doc, err := openapi2conv.ToV3(&swagger)
	if err != nil {
		return fmt.Errorf("convert to OpenAPI 3: %w", err)
	}

	// The API is on the listener that serves the document.
	doc.Servers = openapi3.Servers{{URL: "/"}}

	// Swagger 2.0 has no scheme for bearer tokens.
	doc.Components.SecuritySchemes["controlToken"] = &openapi3.SecuritySchemeRef{
		Value: openapi3.NewSecurityScheme().WithType("http").WithScheme("bearer").
			WithDescription("A token of control.tokens; none is needed where that is empty."),
	}

	if err := doc.Validate(context.Background()); err != nil {
		return fmt.Errorf("validate the result: %w", err)
	}

	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")

	return encoder.Encode(doc)
}
