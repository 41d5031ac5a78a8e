package rest_test

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

// uncalled is a broker and a minter whose methods must not be called.
type uncalled struct {
	fakeBroker

	t *testing.T
}

func (u *uncalled) Publish(_ context.Context, m broker.Message) (broker.Receipt, error) {
	u.t.Errorf("Publish was called with %+v", m)

	return broker.Receipt{}, broker.ErrClosed
}

func (u *uncalled) Users(prefix, after string, _ int) []broker.User {
	u.t.Errorf("Users was called with %q and %q", prefix, after)

	return nil
}

func (u *uncalled) Topics(prefix, after string, _ int) []broker.Topic {
	u.t.Errorf("Topics was called with %q and %q", prefix, after)

	return nil
}

func (u *uncalled) Disconnect(user string, _ time.Duration) (int, error) {
	u.t.Errorf("Disconnect was called with %q", user)

	return 0, nil
}

func (u *uncalled) Position() (string, error) {
	u.t.Error("Position was called")

	return "", broker.ErrClosed
}

func (u *uncalled) ReadMessages(_ context.Context, q broker.Read) (broker.ReadPage, error) {
	u.t.Errorf("ReadMessages was called with %+v", q)

	return broker.ReadPage{}, broker.ErrClosed
}

func (u *uncalled) Tap(broker.Audience, string) (*broker.Tap, error) {
	u.t.Error("Tap was called")

	return nil, broker.ErrClosed
}

func (u *uncalled) Mint(user string, topics []string, _ time.Duration) (string, time.Time, error) {
	u.t.Errorf("Mint was called with %q and %q", user, topics)

	return "", time.Time{}, nil
}

// openAPI holds the parts of the OpenAPI document that the test needs.
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

func (s schema) acceptsText() bool {
	return s.Type == "string" || s.Items != nil && s.Items.Type == "string"
}

var (
	pathVariable = regexp.MustCompile(`\{(\w+)\}`)
	capital      = regexp.MustCompile(`[A-Z]`)
)

// TestInvalidUTF8 sends invalid UTF-8 in every string of every call. It must not
// become U+FFFD, which would be the same for all of them.
func TestInvalidUTF8(t *testing.T) {
	t.Parallel()

	u := &uncalled{t: t}
	s := startServer(t, control.Config{}, u, u)

	var document openAPI
	if err := json.Unmarshal([]byte(s.do(t, http.MethodGet, "/openapi.json", "").body), &document); err != nil {
		t.Fatal(err)
	}

	fields := 0

	for path, calls := range document.Paths {
		for method, call := range calls {
			method = strings.ToUpper(method)

			for _, parameter := range call.Parameters {
				if parameter.Schema.acceptsText() {
					fields++

					checkInvalidUTF8(t, s, method, path, parameter.In, parameter.Name, parameter.Schema)
				}
			}

			body := document.Components.Schemas[strings.TrimPrefix(call.RequestBody.Content["application/json"].Schema.Ref, "#/components/schemas/")]
			for name, property := range body.Properties {
				if property.acceptsText() {
					fields++

					checkInvalidUTF8(t, s, method, path, "body", name, property)
				}
			}
		}
	}

	if fields < 20 {
		t.Errorf("%d string fields in all calls, want at least 20", fields)
	}
}

// checkInvalidUTF8 checks that invalid strings in one field are rejected with
// its name.
func checkInvalidUTF8(t *testing.T, s server, method, path, in, name string, of schema) {
	t.Helper()

	field := capital.ReplaceAllStringFunc(name, func(letter string) string { return "_" + strings.ToLower(letter) })
	check := func(path, body string) {
		t.Helper()

		path = pathVariable.ReplaceAllString(path, "x")

		got := s.do(t, method, path, body)
		if got.StatusCode != http.StatusBadRequest {
			t.Errorf("%s %s %q: response %s %s, want 400", method, path, body, got.Status, got.body)

			return
		}

		if f := got.failure(t); f.reason != "INVALID_FIELD" || len(f.fields) != 1 || f.fields[field] == "" {
			t.Errorf("%s %s %q: error %+v, want an error for %s", method, path, body, f, field)
		}
	}
	object := func(text string) string {
		if of.Items != nil {
			return fmt.Sprintf(`{"%s":["a","%s"]}`, name, text)
		}

		return fmt.Sprintf(`{"%s":"%s"}`, name, text)
	}

	for _, invalid := range []string{
		"\xff",             // not part of any encoded character
		"m\xfcller",        // Latin-1
		"\xc0\xaf",         // overlong
		"\xed\xa0\xbd",     // a single surrogate
		"\xf4\x90\x80\x80", // beyond Unicode
		"\xf0\x9f\x98",     // truncated
	} {
		switch in {
		case "path":
			check(strings.Replace(path, "{"+name+"}", url.QueryEscape(invalid), 1), "")
		case "query":
			check(path+"?"+name+"="+url.QueryEscape(invalid), "")
		case "body":
			check(path, object(invalid))
		}
	}

	if in == "body" {
		for _, invalid := range []string{`\ud83d`, `\ude00`, `\ude00\ud83d`, `a\ud83dx`} {
			check(path, object(invalid))
		}
	}
}
