package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// format is the output format. The zero value is a table.
type format struct{ json bool }

func formats() []string { return []string{"table", "json"} }

// String implements [pflag.Value].
func (f *format) String() string {
	if f.json {
		return "json"
	}
	return "table"
}

// Set implements [pflag.Value].
func (f *format) Set(value string) error {
	if !slices.Contains(formats(), value) {
		return fmt.Errorf("invalid format %q; want one of %s", value, strings.Join(formats(), ", "))
	}
	f.json = value == "json"
	return nil
}

// Type implements [pflag.Value].
func (f *format) Type() string { return "format" }

// print prints a reply from the control plane, either as the JSON that the REST
// API returns or as the table that rows fills.
func (s *session) print(reply proto.Message, rows func(table.Writer)) error {
	if s.output.json {
		text, err := jsonOf(reply)
		if err != nil {
			return err
		}

		var indented bytes.Buffer
		if err := json.Indent(&indented, text, "", "  "); err != nil {
			return fmt.Errorf("indent the reply: %w", err)
		}

		_, err = fmt.Fprintln(s.stdout, indented.String())
		return err
	}

	t := newTable()
	rows(t)
	_, err := fmt.Fprintln(s.stdout, t.Render())
	s.warnMissingNodes(reply)
	return err
}

// jsonOf returns reply in the canonical JSON mapping, on one line. It removes
// white space, because protojson deliberately varies it.
func jsonOf(reply proto.Message) ([]byte, error) {
	text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(reply)
	if err != nil {
		return nil, fmt.Errorf("encode the reply: %w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, fmt.Errorf("encode the reply: %w", err)
	}
	return compact.Bytes(), nil
}

// newTable returns a table without borders, which cut and awk can process.
func newTable() table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "  "
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	return t
}
