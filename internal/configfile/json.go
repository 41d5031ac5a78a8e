package configfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf16"
)

func readJSON(content []byte) (section, error) {
	// Unmarshal reports every kind of syntax error, with its offset.
	if err := json.Unmarshal(content, new(any)); err != nil {
		return nil, jsonError(content, err)
	}

	r := jsonReader{content: content, tokens: json.NewDecoder(bytes.NewReader(content))}
	value, err := r.value()
	if err != nil {
		return nil, err
	}

	root, ok := value.(section)
	if !ok {
		return nil, &SyntaxError{1, `not an object; want entries such as {"sse": {"addr": "…"}}`}
	}

	return root, nil
}

// jsonReader converts the tokens of a valid document.
type jsonReader struct {
	content []byte
	tokens  *json.Decoder
}

func (r *jsonReader) value() (any, error) {
	token, _, err := r.next()
	if err != nil {
		return nil, err
	}

	switch token {
	case json.Delim('{'):
		s := section{}
		for r.tokens.More() {
			key, at, err := r.next()
			if err != nil {
				return nil, err
			}

			value, err := r.value()
			if err != nil {
				return nil, err
			}

			name, _ := key.(string) // a key is always a string
			s = append(s, pair{name, at, value})
		}

		_, _, err := r.next()

		return s, err
	case json.Delim('['):
		items := list{}
		for r.tokens.More() {
			value, err := r.value()
			if err != nil {
				return nil, err
			}
			items = append(items, value)
		}

		_, _, err := r.next()

		return items, err
	default:
		return token, nil
	}
}

// next returns the next token and, if it is a string, its position.
func (r *jsonReader) next() (json.Token, position, error) {
	begin := int(r.tokens.InputOffset())
	token, err := r.tokens.Token()
	if err != nil {
		return nil, position{}, jsonError(r.content, err)
	}
	if _, ok := token.(string); !ok {
		return token, position{}, nil
	}

	raw := r.content[begin:r.tokens.InputOffset()]
	quote := max(bytes.IndexByte(raw, '"'), 0)
	at := positionOf(r.content, begin+quote)

	if hasLoneSurrogate(raw) {
		return nil, at, &SyntaxError{at.line, `a string with half of a surrogate pair (\ud800 to \udfff); want both halves`}
	}

	return token, at, nil
}

// hasLoneSurrogate reports whether a valid string literal contains an escaped half
// of a surrogate pair, which the decoder would replace.
func hasLoneSurrogate(literal []byte) bool {
	const escapeLength = len(`\u0000`)
	high := rune(0) // a high surrogate without its low surrogate so far

	for i := 0; i < len(literal); {
		unit, size := rune(0), 1
		if literal[i] == '\\' {
			size = 2
			if literal[i+1] == 'u' {
				size = escapeLength
				n, _ := strconv.ParseUint(string(literal[i+2:i+size]), 16, 16) // the literal is valid
				unit = rune(n)
			}
		}

		pairs := high != 0 && utf16.DecodeRune(high, unit) != '\uFFFD'
		if high != 0 && !pairs {
			return true
		}

		high = 0
		if utf16.IsSurrogate(unit) && !pairs {
			high = unit
		}

		i += size
	}

	return high != 0
}

// jsonError converts an error from the decoder.
func jsonError(content []byte, err error) error {
	message, offset := err.Error(), int64(len(content))
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = syntax.Offset
	} else if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		offset, message = mismatch.Offset, mismatch.Value+" is out of range"
	}

	return &SyntaxError{positionOf(content, int(offset)-1).line, message}
}
