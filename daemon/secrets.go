package daemon

import (
	"reflect"
	"slices"
	"strings"
)

// trimSecrets returns c with the line breaks at the end of secrets removed, and the
// keys of the settings that had any. Such line breaks come from files or from echo. An
// application that signs tokens with the same secret usually has it without a line
// break.
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
			tokens := slices.Clone(value) // Leave the caller's slice unchanged.
			for i, token := range tokens {
				tokens[i].Token = trim(token.Token)
			}
			field.Set(reflect.ValueOf(tokens))
		case []Hook:
			hooks := slices.Clone(value)
			for i, hook := range hooks {
				hooks[i].Secret = trim(hook.Secret)
			}
			field.Set(reflect.ValueOf(hooks))
		case []Source:
			sources := slices.Clone(value)
			for i, s := range sources {
				sources[i] = s.withSecrets(trim)
			}
			field.Set(reflect.ValueOf(sources))
		}

		if changed {
			keys = append(keys, s.Key)
		}
	})

	return c, keys
}
