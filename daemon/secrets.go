package daemon

import (
	"reflect"
	"slices"
	"strings"
)

// trimSecrets returns c without line breaks at the end of secrets, and the keys
// of the settings that had any. Such line breaks come from files or from echo.
// The copy of the secret in an application that signs tokens usually has none.
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
			tokens := slices.Clone(value) // The caller's slice stays unchanged.
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
