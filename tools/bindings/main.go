// Command bindings fixes the Swagger 2.0 document in a file for calls with several
// paths. protoc-gen-openapiv2 lists every field that the path doesn't set as a query
// parameter. bindings removes those that another path of the same call sets, since
// REST rejects them.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bindings:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%d arguments; want the path of the Swagger document", len(args))
	}

	document, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	if !gjson.ValidBytes(document) {
		return fmt.Errorf("%s is not JSON", args[0])
	}
	if document, err = fix(document); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}

	return os.WriteFile(args[0], document, 0o644)
}

// operation is one path of a call.
type operation struct {
	key        string // of its parameters, as a path for gjson
	parameters []gjson.Result
}

// fix returns the document without the query parameters that another path of the same
// call sets.
func fix(document []byte) ([]byte, error) {
	calls, inPath := operations(document)

	for call, paths := range calls {
		for _, op := range paths {
			// From the last one, so that the indexes of the others stay the same.
			for i := len(op.parameters) - 1; i >= 0; i-- {
				p := op.parameters[i]
				if p.Get("in").Str != "query" || !inPath[call][p.Get("name").Str] {
					continue
				}

				var err error
				if document, err = sjson.DeleteBytes(document, op.key+"."+strconv.Itoa(i)); err != nil {
					return nil, fmt.Errorf("removing %s: %w", p.Get("name").Str, err)
				}
			}
		}
	}

	var formatted bytes.Buffer
	if err := json.Indent(&formatted, document, "", "  "); err != nil {
		return nil, err
	}

	return formatted.Bytes(), nil
}

// operations returns the paths of each call, and the names of the parameters that are
// in any of them.
func operations(document []byte) (calls map[string][]operation, inPath map[string]map[string]bool) {
	// The operations of a call are numbered from the second on.
	number := regexp.MustCompile(`\d*$`)
	calls, inPath = make(map[string][]operation), make(map[string]map[string]bool)

	gjson.GetBytes(document, "paths").ForEach(func(path, methods gjson.Result) bool {
		methods.ForEach(func(method, op gjson.Result) bool {
			call := number.ReplaceAllString(op.Get("operationId").Str, "")
			if inPath[call] == nil {
				inPath[call] = make(map[string]bool)
			}

			parameters := op.Get("parameters").Array()
			key := strings.Join([]string{"paths", gjson.Escape(path.Str), method.Str, "parameters"}, ".")
			calls[call] = append(calls[call], operation{key, parameters})

			for _, p := range parameters {
				if p.Get("in").Str == "path" {
					inPath[call][p.Get("name").Str] = true
				}
			}

			return true
		})

		return true
	})

	return calls, inPath
}
