package daemon

import (
	"reflect"
	"slices"
	"strings"
)

// trimSecrets returns c without the line breaks that secrets end with, and the
// keys of those that had any. They come from files that a secret was read from,
// or from echo, and whoever signs with the secret doesn't have them.
func (c Config) trimSecrets() (trimmed Config, keys []string) {
	eachSetting("", reflect.ValueOf(&c).Elem(), func(s Setting, field reflect.Value) {
		if !s.Secret {
			return
		}

		changed := false
		trim := func(secret string) string {
			rest := strings.TrimRight(secret, "\r\n")
			changed = changed || rest != secret

			return rest
		}

		switch value := s.Value.(type) {
		case string:
			field.SetString(trim(value))
		case []Token:
			tokens := slices.Clone(value) // the caller's stays as it is
			for i, token := range tokens {
				tokens[i].Token = trim(token.Token)
			}
			field.Set(reflect.ValueOf(tokens))
		}
		if changed {
			keys = append(keys, s.Key)
		}
	})

	return c, keys
}

// warnOfTrimmedSecrets logs each of the keys that is new.
func (p *parts) warnOfTrimmedSecrets(keys []string, isNew func(key string) bool) {
	for _, key := range keys {
		if isNew(key) {
			p.log.Warn("ignored line break at the end of a secret", "setting", key)
		}
	}
}
