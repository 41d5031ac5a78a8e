package daemon

import (
	"fmt"
	"reflect"
	"strconv"
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
	Reload  bool     // it can change while the daemon runs
	Empty   bool     // an empty text is a value of its own, and not the default
}

// Settings lists the keys of c in the order of its fields. Whatever names
// settings to people (flags, variables, help, references) is derived from it,
// so that a field of Config is a setting everywhere.
func (c Config) Settings() []Setting {
	var settings []Setting
	eachSetting("", reflect.ValueOf(c), func(s Setting, _ reflect.Value) { settings = append(settings, s) })
	return settings
}

func eachSetting(prefix string, section reflect.Value, visit func(s Setting, field reflect.Value)) {
	for field, value := range section.Fields() {
		key := prefix + field.Tag.Get("mapstructure")
		if value.Kind() == reflect.Struct {
			eachSetting(key+".", value, visit)
			continue
		}
		visit(Setting{
			Key:     key,
			Doc:     field.Tag.Get("doc"),
			Value:   value.Interface(),
			Choices: strings.Fields(field.Tag.Get("choices")),
			Secret:  field.Tag.Get("secret") == "true",
			Reload:  field.Tag.Get("reload") == "true",
			Empty:   field.Tag.Get("empty") == "true",
		}, value)
	}
}

// difference is a setting of which a running daemon was given another value.
type difference struct{ runs, given Setting }

// differences lists them, in the order of the fields.
func (c Config) differences(given Config) []difference {
	var found []difference
	is := c.Settings()
	for i, s := range given.Settings() {
		if !s.equals(is[i]) {
			found = append(found, difference{is[i], s})
		}
	}
	return found
}

// with returns c with the values of given for the settings that can change
// while the daemon runs.
func (c Config) with(given Config) Config {
	values := given.Settings()
	i := 0
	eachSetting("", reflect.ValueOf(&c).Elem(), func(s Setting, field reflect.Value) {
		if s.Reload {
			field.Set(reflect.ValueOf(values[i].Value))
		}
		i++
	})
	return c
}

// equals compares values. An empty list is one, whether it is nil or not.
func (s Setting) equals(other Setting) bool {
	a, b := reflect.ValueOf(s.Value), reflect.ValueOf(other.Value)
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(s.Value, other.Value)
}

// shown is the value in words, for the log.
func (s Setting) shown() string {
	if s.Secret {
		return "(not shown)"
	}
	if text, ok := s.Value.(string); ok {
		return strconv.Quote(text)
	}
	return fmt.Sprint(s.Value)
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
