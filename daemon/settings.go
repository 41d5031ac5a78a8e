package daemon

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Setting is a setting of a [Config] and its value.
type Setting struct {
	Key     string
	Doc     string
	Value   any      // has the field's type
	Choices []string // the accepted values, if they can be listed
	Secret  bool     // Value must not be printed
	Reload  bool     // the setting can change while the daemon runs
	Empty   bool     // an empty string is a value, not the default
}

// Settings returns the settings of c in the order of its fields. Flags, environment
// variables, help and the reference are derived from them, so each field of Config is a
// setting in all of these.
func (c Config) Settings() []Setting {
	var settings []Setting
	eachSetting("", reflect.ValueOf(c), func(s Setting, _ reflect.Value) { settings = append(settings, s) })
	return settings
}

// eachSetting calls visit for each setting in a section and its subsections.
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

// difference holds a setting with the value in effect and with a different new value.
type difference struct{ runs, given Setting }

// differences returns the settings that have different values in c and given, in the
// order of the fields.
func (c Config) differences(given Config) []difference {
	var found []difference
	current := c.Settings()
	for i, s := range given.Settings() {
		if !s.equals(current[i]) {
			found = append(found, difference{current[i], s})
		}
	}
	return found
}

// with returns c with the values from given for those settings that can change while
// the daemon runs.
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

// equals reports whether two settings have the same value. An empty list equals
// a nil one.
func (s Setting) equals(other Setting) bool {
	a, b := reflect.ValueOf(s.Value), reflect.ValueOf(other.Value)
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(s.Value, other.Value)
}

// shown returns the value as text for the log, or a placeholder if the value is secret.
func (s Setting) shown() string {
	if s.Secret {
		return "(not shown)"
	}
	if text, ok := s.Value.(string); ok {
		return strconv.Quote(text)
	}
	return fmt.Sprint(s.Value)
}

// Accepts describes the values that the setting accepts, judging by its type and
// choices.
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
		return `octal digits as a string, such as "0660"`
	case []string:
		return "a list of strings"
	case []TopicPolicy:
		return "a list of policies, each with a pattern, and history, retain, slow_consumer or anonymous"
	case []Hook:
		return "a list of hooks, each with a url, a secret, and events or a delay"
	case []Source:
		return "a list of sources, each with a name, the settings of one kind, such as postgres, and optionally a map"
	case []Token:
		return "a list of tokens, each with a name, a token and scopes"
	default:
		return "a string"
	}
}
