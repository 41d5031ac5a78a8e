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

// format is how results are printed. The zero value is a table.
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
		return fmt.Errorf("%q is none of %s", value, strings.Join(formats(), ", "))
	}
	f.json = value == "json"
	return nil
}

// Type implements [pflag.Value].
func (f *format) Type() string { return "format" }

// print shows a reply of the control plane: as the JSON that the REST twin of
// the call would answer, or as what rows makes of it.
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
	s.warnOfMissing(reply)
	return err
}

// jsonOf is reply in the canonical mapping, on one line. Protojson varies its
// white space on purpose, so it is taken out.
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

// newTable returns a table that is easy on the eye and on cut and awk.
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
