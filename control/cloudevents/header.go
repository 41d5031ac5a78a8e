package cloudevents

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/peald/peald/control/apierror"
)

// headerPrefix is the prefix of the headers that hold attributes, in canonical form.
const headerPrefix = "Ce-"

// contentTypeHeader is the header that holds the media type of the data, or the content
// mode.
const contentTypeHeader = "Content-Type"

// hasAttributes reports whether header has an attribute of an event.
func hasAttributes(header http.Header) bool {
	for name := range header {
		if strings.HasPrefix(name, headerPrefix) {
			return true
		}
	}

	return false
}

// fromHeader reads an event in the binary content mode (HTTP protocol binding, section
// 3.1): the headers hold its attributes, and the body is its data.
func fromHeader(header http.Header, body []byte) (Event, error) {
	var (
		b       builder
		invalid []apierror.Field
	)

	for _, name := range slices.Sorted(maps.Keys(header)) {
		attribute, ok := attributeOf(name)
		if !ok {
			continue
		}

		var problem string
		if attribute == contentTypeAttribute && name != contentTypeHeader {
			problem = "must be in the header " + contentTypeHeader
		} else {
			problem = b.setHeader(attribute, header[name])
		}

		if problem != "" {
			invalid = append(invalid, apierror.Field{Name: attribute, Problem: problem})
		}
	}

	// Without a media type, data in JSON would be taken for JSON, so other data is encoded.
	contentType := header.Get(contentTypeHeader)
	untypedJSON := contentType == "" && json.Valid(body)
	b.data = data{
		bytes: body, present: len(body) > 0, isJSON: isJSON(contentType) || untypedJSON,
		encoded: contentType == "" && !untypedJSON,
	}

	return b.event(invalid)
}

// attributeOf returns the attribute that the header with the given canonical name holds.
func attributeOf(name string) (attribute string, ok bool) {
	if name == contentTypeHeader {
		return contentTypeAttribute, true
	}

	attribute, ok = strings.CutPrefix(name, headerPrefix)

	return strings.ToLower(attribute), ok
}

// setHeader sets the attribute that a header holds. It returns a problem that completes
// a sentence starting with the attribute's name, or "".
func (b *builder) setHeader(attribute string, values []string) (problem string) {
	if len(values) > 1 {
		return apierror.MoreThanOnce
	}

	// The media type is an HTTP header like any other, without an encoding of its own.
	if attribute == contentTypeAttribute {
		return b.set(attribute, values[0])
	}

	value, problem := decodeHeader(values[0])
	if problem != "" {
		return problem
	}

	return b.set(attribute, value)
}

// decodeHeader decodes a header's value as section 3.1.3.2 of the HTTP protocol binding
// requires: first a quoted string, and then percent-encoded bytes. A percent sign that
// no two hexadecimal digits follow stands for itself, because many senders don't encode
// it. Problem completes a sentence that starts with the attribute's name.
func decodeHeader(value string) (decoded, problem string) {
	value, ok := unquote(value)
	if !ok {
		return "", fmt.Sprintf("is %.80q, an unfinished quoted string", strings.ToValidUTF8(value, "\uFFFD"))
	}

	if decoded = decodePercent(value); !utf8.ValidString(decoded) {
		return "", apierror.NotUTF8
	}

	return decoded, ""
}

// unquote returns the content of a quoted string (RFC 9110, section 5.6.4). Other values
// are returned unchanged. It returns false if a quoted string doesn't end where the value
// does.
func unquote(value string) (content string, ok bool) {
	quoted, ok := strings.CutPrefix(value, `"`)
	if !ok {
		return value, true
	}

	var out strings.Builder

	for i := 0; i < len(quoted); i++ {
		switch c := quoted[i]; {
		case c == '"':
			if i < len(quoted)-1 {
				return value, false
			}

			return out.String(), true
		case c == '\\' && i+1 < len(quoted):
			i++
			out.WriteByte(quoted[i])
		default:
			out.WriteByte(c)
		}
	}

	return value, false
}

// decodePercent replaces each percent sign and two hexadecimal digits with the byte that
// they stand for.
func decodePercent(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}

	var out strings.Builder

	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			out.WriteByte(fromHex(s[i+1])<<4 | fromHex(s[i+2]))
			i += 2
		} else {
			out.WriteByte(s[i])
		}
	}

	return out.String()
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func fromHex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}
