package daemon

import (
	"reflect"
	"strings"
	"time"
)

// Setting is one key of a [Config], with what a Config has there.
type Setting struct {
	Key     string
	Doc     string
	Value   any      // of the field's own type
	Choices []string // all values that it can have; none where there are many
	Secret  bool     // Value must not be shown
}

// Settings lists the keys of c in the order of its fields. Whatever names
// settings to people (flags, variables, help, references) is derived from it,
// so that a field of Config is a setting everywhere.
func (c Config) Settings() []Setting {
	return appendSettings(nil, "", reflect.ValueOf(c))
}

func appendSettings(settings []Setting, prefix string, section reflect.Value) []Setting {
	for field, value := range section.Fields() {
		key := prefix + field.Tag.Get("mapstructure")
		if value.Kind() == reflect.Struct {
			settings = appendSettings(settings, key+".", value)
			continue
		}
		settings = append(settings, Setting{
			Key:     key,
			Doc:     field.Tag.Get("doc"),
			Value:   value.Interface(),
			Choices: strings.Fields(field.Tag.Get("choices")),
			Secret:  field.Tag.Get("secret") == "true",
		})
	}
	return settings
}

// Accepts says in words which values the setting takes, as far as its type tells.
func (s Setting) Accepts() string {
	if last := len(s.Choices) - 1; last > 0 {
		return strings.Join(s.Choices[:last], ", ") + " or " + s.Choices[last]
	}
	switch s.Value.(type) {
	case bool:
		return "true or false"
	case int:
		return "a whole number"
	case Bytes:
		return "a size such as 65536, 64KiB or 1MiB"
	case time.Duration:
		return "a duration such as 500ms, 15s or 1m30s"
	case FileMode:
		return `octal digits as a text, such as "0660"`
	case []string:
		return "a list of texts"
	case []Token:
		return "a list of tokens, each with a name, a token and scopes"
	default:
		return "a text"
	}
}
