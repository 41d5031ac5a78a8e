package source

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/peald/peald/internal/broker"
)

// Map holds the templates that turn a record into a message. A template is text with
// placeholders, such as "orders.{key}"; {{ and }} stand for braces. A template with a
// placeholder that the record has no value for leaves its field unset, and so does one
// whose result is empty.
//
// An empty template means the kind's default. The default audience applies only if all
// templates for the audience are empty.
type Map struct {
	// Topic and Topics, UserID, or Everyone determine the audience. Exactly one of these
	// three must be set for each record. Everyone is "true", or "false" for unset.
	Topic            string
	Topics           []string
	UserID, Everyone string
	// ExcludeUserID is a user who doesn't get the message.
	ExcludeUserID string
	// Data is the message's data. Unlike the other templates, it may consist of one
	// placeholder for a JSON object or array.
	Data string
	// Event and ConflateKey are optional.
	Event, ConflateKey string
	// Retain and Final are "true" or "false". The default is false.
	Retain, Final string
	// TTL is a duration such as "90s".
	TTL string
	// IdempotencyKey replaces the key that is derived from the source and the offset.
	IdempotencyKey string
}

// Schema describes what the records of a kind of source have, and how they are mapped
// by default.
type Schema struct {
	// Origin is the placeholder for Record.Origin, such as "topic".
	Origin string
	// Field is the prefix of the placeholders for Record.Fields, such as "header".
	Field string
	// Key and Value are true if records have a key and a value.
	Key, Value bool
	// Default holds the default templates.
	Default Map
}

// Mapping is a compiled [Map]. It is safe for concurrent use.
type Mapping struct {
	fields []mappedField
}

// mappedField is a field of a message, and the template for it.
type mappedField struct {
	key      string // in the settings
	template template
	set      func(m *broker.Message, value string) error // the error completes a sentence that starts with the key
}

// fieldOf describes a field of a Map.
type fieldOf struct {
	key      string
	text     func(m *Map) *string
	set      func(m *broker.Message, value string) error
	audience bool
}

// mapFields returns all fields of a Map except Topics.
func mapFields() []fieldOf {
	return []fieldOf{
		{"topic", func(m *Map) *string { return &m.Topic }, addTopic, true},
		{"user_id", func(m *Map) *string { return &m.UserID }, setUser, true},
		{"everyone", func(m *Map) *string { return &m.Everyone }, setEveryone, true},
		{"exclude_user_id", func(m *Map) *string { return &m.ExcludeUserID }, setExcludedUser, false},
		{"data", func(m *Map) *string { return &m.Data }, setData, false},
		{"event", func(m *Map) *string { return &m.Event }, setEvent, false},
		{"conflate_key", func(m *Map) *string { return &m.ConflateKey }, setConflateKey, false},
		{"retain", func(m *Map) *string { return &m.Retain }, setRetain, false},
		{"final", func(m *Map) *string { return &m.Final }, setFinal, false},
		{"ttl", func(m *Map) *string { return &m.TTL }, setTTL, false},
		{"idempotency_key", func(m *Map) *string { return &m.IdempotencyKey }, setIdempotencyKey, false},
	}
}

// NewMapping compiles m for records that schema describes. Its error is a
// *[SettingError] whose field starts with "map".
func NewMapping(m Map, schema Schema) (*Mapping, error) {
	m = m.withDefaults(schema.Default)
	mapping := new(Mapping)
	hasAudience, hasData := len(m.Topics) > 0, false

	for i, text := range m.Topics {
		f := fieldOf{key: fmt.Sprintf("topics[%d]", i), set: addTopic}
		if err := mapping.add(f, text, schema); err != nil {
			return nil, err
		}
	}
	for _, f := range mapFields() {
		text := *f.text(&m)
		if text == "" {
			continue
		}
		if err := mapping.add(f, text, schema); err != nil {
			return nil, err
		}
		hasAudience = hasAudience || f.audience
		hasData = hasData || f.key == "data"
	}

	switch {
	case !hasAudience:
		return nil, &SettingError{"map", "no audience", "map.topic, map.topics, map.user_id or map.everyone"}
	case !hasData:
		return nil, &SettingError{"map.data", `""`, "a template for the data"}
	}

	return mapping, nil
}

// add adds a field with a template, or returns a *SettingError.
func (c *Mapping) add(f fieldOf, text string, schema Schema) error {
	t, err := parseTemplate(text, schema, f.key == "data")
	if err == nil {
		err = checkLiteral(t, f)
	}
	if err != nil {
		return &SettingError{"map." + f.key, strconv.Quote(text), err.Error()}
	}
	c.fields = append(c.fields, mappedField{f.key, t, f.set})

	return nil
}

// fieldNames returns the sorted names of the record fields that the templates use.
func (c *Mapping) fieldNames() []string {
	names := make(map[string]struct{})
	for _, f := range c.fields {
		for _, p := range f.template.parts {
			if p.from == fromField {
				names[p.name] = struct{}{}
			}
		}
	}

	return slices.Sorted(maps.Keys(names))
}

// withDefaults returns m with defaults for the templates that are empty.
func (m Map) withDefaults(defaults Map) Map {
	ownAudience := m.Topic != "" || len(m.Topics) > 0 || m.UserID != "" || m.Everyone != ""
	if !ownAudience {
		m.Topics = defaults.Topics
	}

	for _, f := range mapFields() {
		if text := f.text(&m); *text == "" && (!f.audience || !ownAudience) {
			*text = *f.text(&defaults)
		}
	}

	return m
}

// checkLiteral checks a template without placeholders. Its error states what is
// accepted.
func checkLiteral(t template, f fieldOf) error {
	text, ok := t.literal()
	if !ok {
		return nil
	}

	var m broker.Message
	if err := f.set(&m, text); err != nil {
		return err
	}

	if m.Audience == (broker.Audience{}) {
		m.Audience = broker.ToTopic("t") // may be final
	}
	if m.Data == "" {
		m.Data = "d"
	}
	if err := m.Validate(); err != nil {
		return fmt.Errorf("a valid value: this %w", err)
	}

	return nil
}

// message returns the message for r. Its error contains nothing of r's value.
func (c *Mapping) message(r *Record) (m broker.Message, _ error) {
	values := resolver{record: r}

	for _, f := range c.fields {
		value, ok, err := f.template.expand(&values)
		if err != nil {
			return m, fmt.Errorf("%s: %w", f.key, err)
		}
		if !ok || value == "" {
			continue
		}
		if err := f.set(&m, value); err != nil {
			return m, fmt.Errorf("%s: the record's value isn't valid; want %w", f.key, err)
		}
	}

	return m, nil
}

// errOneAudience is the error for a record with several audiences.
var errOneAudience = errors.New("only one of topics, user_id and everyone")

func setAudience(m *broker.Message, a broker.Audience) error {
	if m.Audience != (broker.Audience{}) {
		return errOneAudience
	}
	m.Audience = a

	return nil
}

// addTopic adds a topic to those that m is for.
func addTopic(m *broker.Message, value string) error {
	first, isTopic := m.Audience.Topic()
	if !isTopic {
		return setAudience(m, broker.ToTopic(value))
	}
	m.SetTopics(slices.Concat([]string{first}, m.Topics, []string{value}))

	return nil
}

func setExcludedUser(m *broker.Message, value string) error {
	m.ExcludeUser = value
	return nil
}

func setUser(m *broker.Message, value string) error { return setAudience(m, broker.ToUser(value)) }

func setEveryone(m *broker.Message, value string) error {
	everyone, err := parseBool(value)
	if err != nil || !everyone {
		return err
	}

	return setAudience(m, broker.Everyone())
}

func setData(m *broker.Message, value string) error {
	m.Data = value
	return nil
}

func setEvent(m *broker.Message, value string) error {
	m.Event = value
	return nil
}

func setConflateKey(m *broker.Message, value string) error {
	m.ConflateKey = value
	return nil
}

func setIdempotencyKey(m *broker.Message, value string) error {
	m.IdempotencyKey = value
	return nil
}

func setRetain(m *broker.Message, value string) (err error) {
	m.Retain, err = parseBool(value)
	return err
}

func setFinal(m *broker.Message, value string) (err error) {
	m.Final, err = parseBool(value)
	return err
}

func setTTL(m *broker.Message, value string) (err error) {
	if m.TTL, err = time.ParseDuration(value); err != nil || m.TTL <= 0 {
		return errors.New("a duration of more than 0, such as 90s")
	}

	return nil
}

func parseBool(value string) (bool, error) {
	switch value {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}

	return false, errors.New("true or false")
}
