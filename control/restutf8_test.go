package control_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/broker"
)

// untouched is a broker and a minter that nothing may be asked of.
type untouched struct {
	fake

	t *testing.T
}

func (u *untouched) Publish(_ context.Context, m broker.Message) (broker.Receipt, error) {
	u.t.Errorf("%+v is published", m)

	return broker.Receipt{}, broker.ErrClosed
}

func (u *untouched) Users(prefix, after string, _ int) []broker.User {
	u.t.Errorf("users from %q, after %q, are asked for", prefix, after)

	return nil
}

func (u *untouched) Topics(prefix, after string, _ int) []broker.Topic {
	u.t.Errorf("topics from %q, after %q, are asked for", prefix, after)

	return nil
}

func (u *untouched) Disconnect(user string, _ time.Duration) (int, error) {
	u.t.Errorf("%q is disconnected", user)

	return 0, nil
}

func (u *untouched) Tap(broker.Audience, string) (*broker.Tap, error) {
	u.t.Error("messages are tapped")

	return nil, broker.ErrClosed
}

func (u *untouched) Mint(user string, topics []string, _ time.Duration) (string, time.Time, error) {
	u.t.Errorf("a token of %q for %q is signed", user, topics)

	return "", time.Time{}, nil
}

// openAPI is what the test needs of the document that REST serves.
type openAPI struct {
	Paths map[string]map[string]struct {
		Parameters []struct {
			Name, In string
			Schema   schema
		}
		RequestBody struct {
			Content map[string]struct {
				Schema struct {
					Ref string `json:"$ref"`
				}
			}
		}
	}
	Components struct {
		Schemas map[string]struct{ Properties map[string]schema }
	}
}

type schema struct {
	Type  string
	Items *schema
}

func (s schema) takesText() bool {
	return s.Type == "string" || s.Items != nil && s.Items.Type == "string"
}

var (
	pathVariable = regexp.MustCompile(`\{(\w+)\}`)
	capital      = regexp.MustCompile(`[A-Z]`)
)

// TestRESTInvalidUTF8 puts what is not UTF-8 into every string that REST takes.
// None of it may become U+FFFD, which it would share with others.
func TestRESTInvalidUTF8(t *testing.T) {
	t.Parallel()

	u := &untouched{t: t}
	p := start(t, control.Config{}, u, u)

	var document openAPI
	if err := json.Unmarshal([]byte(p.do(t, http.MethodGet, "/openapi.json", "").body), &document); err != nil {
		t.Fatal(err)
	}

	places := 0

	for path, calls := range document.Paths {
		for method, call := range calls {
			method = strings.ToUpper(method)

			for _, parameter := range call.Parameters {
				if parameter.Schema.takesText() {
					places++

					checkNotUTF8(t, p, method, path, parameter.In, parameter.Name, parameter.Schema)
				}
			}

			body := document.Components.Schemas[strings.TrimPrefix(call.RequestBody.Content["application/json"].Schema.Ref, "#/components/schemas/")]
			for name, property := range body.Properties {
				if property.takesText() {
					places++

					checkNotUTF8(t, p, method, path, "body", name, property)
				}
			}
		}
	}

	if places < 20 {
		t.Errorf("%d strings were found in all calls, want at least 20", places)
	}
}

// checkNotUTF8 holds that a call with a bad string in one place is rejected by
// the name of its field.
func checkNotUTF8(t *testing.T, p *plane, method, path, in, name string, s schema) {
	t.Helper()

	field := capital.ReplaceAllStringFunc(name, func(letter string) string { return "_" + strings.ToLower(letter) })
	check := func(path, body string) {
		t.Helper()

		path = pathVariable.ReplaceAllString(path, "x")

		got := p.do(t, method, path, body)
		if got.StatusCode != http.StatusBadRequest {
			t.Errorf("%s %s %q: %s %s", method, path, body, got.Status, got.body)

			return
		}

		if f := got.failure(t); f.reason != "INVALID_FIELD" || len(f.fields) != 1 || f.fields[field] == "" {
			t.Errorf("%s %s %q: %+v, want an error of %s", method, path, body, f, field)
		}
	}
	object := func(text string) string {
		if s.Items != nil {
			return fmt.Sprintf(`{"%s":["a","%s"]}`, name, text)
		}

		return fmt.Sprintf(`{"%s":"%s"}`, name, text)
	}

	for _, bad := range []string{
		"\xff",             // in no encoding of a character
		"m\xfcller",        // Latin-1
		"\xc0\xaf",         // overlong
		"\xed\xa0\xbd",     // a lone surrogate
		"\xf4\x90\x80\x80", // beyond Unicode
		"\xf0\x9f\x98",     // cut off
	} {
		switch in {
		case "path":
			check(strings.Replace(path, "{"+name+"}", url.QueryEscape(bad), 1), "")
		case "query":
			check(path+"?"+name+"="+url.QueryEscape(bad), "")
		case "body":
			check(path, object(bad))
		}
	}

	if in == "body" {
		for _, bad := range []string{`\ud83d`, `\ude00`, `\ude00\ud83d`, `a\ud83dx`} {
			check(path, object(bad))
		}
	}
}
