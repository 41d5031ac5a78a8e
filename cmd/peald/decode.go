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
	"github.com/peald/peald/internal/nearest"
)

// Kinds of settings, as help calls them. None is a name of those of pflag's own
// types for which viper would guess at the text.
const (
	kindSwitch   = "boolfunc" // for which help shows no value, as there needs to be none
	kindNumber   = "number"
	kindSize     = "size"
	kindDuration = "time"
	kindMode     = "mode"
	kindText     = "text"
	kindList     = "list"
	kindTokens   = "tokens"
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
	default:
		return kindText
	}
}

// textOf is how a default reads in help.
func textOf(value any) string {
	switch value := value.(type) {
	case []string:
		return strings.Join(value, ",")
	case []daemon.Token:
		return ""
	default:
		return fmt.Sprint(value)
	}
}

// unreadable is a value that is not of its setting's type.
type unreadable struct {
	value    any
	accepted string
	isPublic bool // value is no secret, also in a setting that is one
}

func (e *unreadable) Error() string {
	return fmt.Sprintf("given %s, accepted: %s", e.given(), e.accepted)
}

func (e *unreadable) given() string {
	if text, ok := e.value.(string); ok {
		return strconv.Quote(text)
	}
	return fmt.Sprint(e.value)
}

// decode makes a Config of what v holds.
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

	cause, ok := errors.AsType[*unreadable](at)
	if !ok {
		return daemon.Config{}, fmt.Errorf("%s: %w", at.Name(), at.Unwrap())
	}

	key, _, _ := strings.Cut(at.Name(), "[")
	return daemon.Config{}, &daemon.SettingError{
		Key:      at.Name(),
		Given:    shown(key, cause) + " in " + origin[key],
		Accepted: cause.accepted,
	}
}

// shown is what was given, unless it could be a secret.
func shown(key string, cause *unreadable) string {
	for _, s := range daemon.Defaults().Settings() {
		if s.Key == key && s.Secret && !cause.isPublic {
			return "a value (not shown, for it may be a secret)"
		}
	}
	return cause.given()
}

// readValue turns what a file, a variable or a flag holds into a setting's
// type. Unlike mapstructure's weak typing it guesses at nothing: 15 is no
// duration, 1.5 no whole number, 8080 no text.
func readValue(from, to reflect.Value) (any, error) {
	value := from.Interface()
	if from.Type() == to.Type() {
		return value, nil
	}

	switch target := to.Interface().(type) {
	case bool, int, daemon.Bytes, daemon.FileMode, time.Duration, string:
		read, ok := readScalar(from, target)
		if !ok {
			return nil, refused(value, target)
		}
		return read, nil
	case []string, []daemon.Token:
		return readList(from, target)
	case daemon.Token:
		if text, ok := value.(string); ok {
			return readToken(text)
		}
		return value, checkTokenEntries(value)
	}

	return value, nil
}

func refused(value, target any) error {
	return &unreadable{value: value, accepted: daemon.Setting{Value: target}.Accepts()}
}

// readScalar reads a value of target's type. A text that is given is never
// asked for: readValue takes it as it is.
func readScalar(from reflect.Value, target any) (read any, ok bool) {
	text, _ := reflect.TypeAssert[string](from) // what is no text reads as none
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
		// 0660 is 432 to one kind of file, and 660 to another.
		err := target.UnmarshalText([]byte(text))
		return target, err == nil
	case time.Duration:
		read, err := time.ParseDuration(text)
		return read, err == nil
	default:
		return nil, false
	}
}

// readList reads a list that is one text. Of any other, mapstructure reads the
// entries one by one.
func readList(from reflect.Value, target any) (any, error) {
	value := from.Interface()
	text, isText := reflect.TypeAssert[string](from)
	_, ofTokens := target.([]daemon.Token)
	switch {
	case isText && ofTokens:
		return readTokens(text)
	case isText:
		return splitList(text), nil
	case from.Kind() == reflect.Slice:
		return value, nil
	default:
		return nil, refused(value, target)
	}
}

// wholeNumber reads a number that a file or a text holds. JSON has no whole
// numbers of its own.
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

// readToken reads the short form of a token: none of its parts may hold the
// characters that part them.
func readToken(text string) (daemon.Token, error) {
	parts := strings.Split(text, ":")
	switch len(parts) {
	case 2:
		return daemon.Token{Name: parts[0], Token: parts[1]}, nil
	case 3:
		return daemon.Token{Name: parts[0], Token: parts[1], Scopes: strings.Split(parts[2], "+")}, nil
	default:
		return daemon.Token{}, &unreadable{value: text, accepted: shortForm}
	}
}

func checkTokenEntries(value any) error {
	const accepted = "an entry with name, token and scopes"
	entries, ok := value.(map[string]any)
	if !ok {
		return &unreadable{value: value, accepted: accepted}
	}

	known := []string{"name", "token", "scopes"}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if slices.Contains(known, name) {
			continue
		}
		if meant, ok := nearest.To(name, known); ok {
			return &unreadable{name, accepted + "; the nearest is " + meant, true}
		}
		return &unreadable{value: name, accepted: accepted}
	}

	return nil
}
