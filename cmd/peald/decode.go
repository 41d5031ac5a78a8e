package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/configfile"
	"github.com/peald/peald/internal/nearest"
)

// Names of flag types, as shown in the help. They must differ from the names of
// pflag types, because viper parses the text of those types in its own way.
const (
	kindSwitch   = "boolfunc" // the help shows no value for this type
	kindNumber   = "number"
	kindSize     = "size"
	kindDuration = "time"
	kindMode     = "mode"
	kindText     = "text"
	kindList     = "list"
	kindTokens   = "tokens"
	kindPolicies = "policies"
	kindHooks    = "hooks"
	kindSources  = "sources"
)

func kindOf(value any) string {
	switch value.(type) {
	case bool:
		return kindSwitch
	case int:
		return kindNumber
	case daemon.Bytes:
		return kindSize
	case time.Duration:
		return kindDuration
	case daemon.FileMode:
		return kindMode
	case []string:
		return kindList
	case []daemon.Token:
		return kindTokens
	case []daemon.TopicPolicy:
		return kindPolicies
	case []daemon.Hook:
		return kindHooks
	case []daemon.Source:
		return kindSources
	default:
		return kindText
	}
}

// textOf returns the text that the help shows for a default.
func textOf(value any) string {
	switch value := value.(type) {
	case []string:
		return strings.Join(value, ",")
	case []daemon.Token, []daemon.TopicPolicy, []daemon.Hook, []daemon.Source:
		return ""
	default:
		return fmt.Sprint(value)
	}
}

// typeError reports a value that doesn't have the type of its setting.
type typeError struct {
	value    any
	accepted string
	isPublic bool // the value isn't a secret, even if the setting is one
}

func (e *typeError) Error() string {
	return fmt.Sprintf("given %s; want %s", e.given(), e.accepted)
}

func (e *typeError) given() string {
	if text, ok := e.value.(string); ok {
		return strconv.Quote(text)
	}
	return fmt.Sprint(e.value)
}

// decode returns the configuration that v holds.
func decode(v *viper.Viper, origin map[string]string) (daemon.Config, error) {
	var cfg daemon.Config
	err := v.UnmarshalExact(&cfg, func(dc *mapstructure.DecoderConfig) {
		dc.WeaklyTypedInput = false
		dc.DecodeHook = mapstructure.DecodeHookFuncValue(readValue)
	})
	if err == nil {
		return cfg, nil
	}

	at, named := errors.AsType[*mapstructure.DecodeError](err)
	if !named {
		return daemon.Config{}, fmt.Errorf("settings: %w", err)
	}

	cause, ok := errors.AsType[*typeError](at)
	if !ok {
		return daemon.Config{}, fmt.Errorf("%s: %w", at.Name(), at.Unwrap())
	}

	key, _, _ := strings.Cut(at.Name(), "[")
	return daemon.Config{}, &daemon.SettingError{
		Key:      at.Name(),
		Given:    redacted(key, cause) + " in " + origin[key],
		Accepted: cause.accepted,
	}
}

// redacted returns the text of a value, unless the value may be a secret.
func redacted(key string, cause *typeError) string {
	for _, s := range daemon.Defaults().Settings() {
		if s.Key == key && s.Secret && !cause.isPublic {
			return "a value (hidden because it may be a secret)"
		}
	}
	return cause.given()
}

// readValue converts a value from a file, a variable or a flag to the type of its
// setting. Unlike mapstructure's weak typing, it is strict: 15 isn't a duration,
// 1.5 isn't an integer, and 8080 isn't a string.
func readValue(from, to reflect.Value) (any, error) {
	value := from.Interface()
	if from.Type() == to.Type() {
		return value, nil
	}

	switch target := to.Interface().(type) {
	case bool, int, daemon.Bytes, daemon.FileMode, time.Duration, string:
		read, ok := readScalar(from, target)
		if !ok {
			return nil, mismatch(value, target)
		}
		return read, nil
	case []string, []daemon.Token, []daemon.TopicPolicy, []daemon.Hook, []daemon.Source:
		return readList(from, target)
	case daemon.Token:
		if text, ok := value.(string); ok {
			return readToken(text)
		}
		return value, checkEntries(value, []string{"name", "token", "scopes"}, "an entry with name, token and scopes")
	case daemon.TopicPolicy:
		return value, checkEntries(value, []string{"pattern", "history", "retain", "slow_consumer", "anonymous"}, "a policy with pattern, and history, retain, slow_consumer or anonymous")
	case daemon.Hook:
		return value, checkEntries(value, []string{"url", "events", "secret", "delay"}, "a hook with url and secret, and events or delay")
	case daemon.Source, daemon.SourceMap, daemon.PostgresSource:
		return value, checkSection(value, to.Type())
	case daemon.TopicHistory:
		return value, checkEntries(value, []string{"max_events", "max_age"}, "max_events, max_age or both")
	}

	return value, nil
}

func mismatch(value, target any) error {
	return &typeError{value: value, accepted: daemon.Setting{Value: target}.Accepts()}
}

// readScalar converts a value to the type of target. It isn't called for a
// string setting that is set to a string, which readValue returns unchanged.
func readScalar(from reflect.Value, target any) (read any, ok bool) {
	text, _ := reflect.TypeAssert[string](from) // empty if it isn't a string
	switch target := target.(type) {
	case bool:
		read, err := strconv.ParseBool(text)
		return read, err == nil
	case int:
		return wholeNumber(from)
	case daemon.Bytes:
		if n, ok := wholeNumber(from); ok {
			return daemon.Bytes(n), true
		}
		err := target.UnmarshalText([]byte(text))
		return target, err == nil
	case daemon.FileMode:
		// Numbers are ambiguous: 0660 is 432 in one file format and 660 in another.
		err := target.UnmarshalText([]byte(text))
		return target, err == nil
	case time.Duration:
		read, err := time.ParseDuration(text)
		return read, err == nil
	default:
		return nil, false
	}
}

// readList converts a string to a list. For any other list, mapstructure converts
// the entries one by one.
func readList(from reflect.Value, target any) (any, error) {
	value := from.Interface()
	text, isText := reflect.TypeAssert[string](from)
	_, ofTokens := target.([]daemon.Token)
	_, ofPolicies := target.([]daemon.TopicPolicy)
	_, ofHooks := target.([]daemon.Hook)
	_, ofSources := target.([]daemon.Source)
	switch {
	case isText && ofPolicies:
		return readJSONList(text, target, `[{"pattern":"prices.>","history":{"max_events":1}}]`)
	case isText && ofHooks:
		return readJSONList(text, target, `[{"url":"https://app.example.com/hooks","secret":"whsec_…"}]`)
	case isText && ofSources:
		return readJSONList(text, target, `[{"name":"orders","postgres":{"url":"postgres://localhost/shop"}}]`)
	case isText && ofTokens:
		return readTokens(text)
	case isText:
		return splitList(text), nil
	case from.Kind() == reflect.Slice:
		return value, nil
	default:
		return nil, mismatch(value, target)
	}
}

// wholeNumber converts a number or a string to an int. JSON has only floating-point
// numbers.
func wholeNumber(from reflect.Value) (int, bool) {
	switch {
	case from.CanInt():
		return int(from.Int()), true
	case from.CanFloat():
		f := from.Float()
		return int(f), f == math.Trunc(f) && math.Abs(f) < 1<<53
	case from.Kind() == reflect.String:
		n, err := strconv.Atoi(from.String())
		return n, err == nil
	default:
		return 0, false
	}
}

func splitList(text string) []string {
	var list []string
	for entry := range strings.SplitSeq(text, ",") {
		if entry = strings.TrimSpace(entry); entry != "" {
			list = append(list, entry)
		}
	}
	return list
}

const shortForm = "name:token or name:token:scope+scope, separated by commas"

func readTokens(text string) ([]daemon.Token, error) {
	var tokens []daemon.Token
	for _, entry := range splitList(text) {
		token, err := readToken(entry)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, token)
	}
	return tokens, nil
}

// readToken parses the short form of a token. Its parts must not contain the
// separators.
func readToken(text string) (daemon.Token, error) {
	parts := strings.Split(text, ":")
	switch len(parts) {
	case 2:
		return daemon.Token{Name: parts[0], Token: parts[1]}, nil
	case 3:
		return daemon.Token{Name: parts[0], Token: parts[1], Scopes: strings.Split(parts[2], "+")}, nil
	default:
		return daemon.Token{}, &typeError{value: text, accepted: shortForm}
	}
}

// readJSONList reads a list of entries from a flag or a variable. Example is part of
// errors.
func readJSONList(text string, target any, example string) (any, error) {
	if strings.TrimSpace(text) == "" {
		return []any{}, nil
	}
	const key = "list"
	entries, err := configfile.Read(configfile.JSON, []byte(`{"`+key+`":`+text+`}`))
	if err != nil || len(entries) != 1 || entries[0].Key != key {
		return nil, &typeError{value: text, accepted: "a JSON list such as " + example}
	}
	list, ok := entries[0].Value.([]any)
	if !ok {
		return nil, mismatch(text, target)
	}
	return list, nil
}

// checkEntries checks that value is a section, or a section within a list, that has
// only known entries.
func checkEntries(value any, known []string, accepted string) error {
	entries, ok := value.(map[string]any)
	if !ok {
		return &typeError{value: value, accepted: accepted}
	}

	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if slices.Contains(known, name) {
			continue
		}
		if suggestion, ok := nearest.To(name, known); ok {
			return &typeError{name, accepted + "; did you mean " + suggestion + "?", true}
		}
		return &typeError{value: name, accepted: accepted}
	}

	return nil
}

// checkSection checks that value is a section that has only the entries of a struct type.
// The names of unknown entries are not secret, even if the values are.
func checkSection(value any, of reflect.Type) error {
	var known []string
	for field := range of.Fields() {
		known = append(known, field.Tag.Get("mapstructure"))
	}

	err := checkEntries(value, known, "a section with some of "+strings.Join(known, ", "))
	if unknown, ok := errors.AsType[*typeError](err); ok {
		_, isSection := value.(map[string]any)
		unknown.isPublic = isSection
	}

	return err
}
