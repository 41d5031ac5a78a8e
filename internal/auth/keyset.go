package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"

	"github.com/peald/peald/internal/strictjson"
)

// maxKeys is the maximum number of keys in a JSON Web Key Set.
const maxKeys = 1000

// skippedKey describes a key in a set that isn't used.
type skippedKey struct{ id, reason string }

// parseJWKS parses a JSON Web Key Set (RFC 7517). It skips keys that it can't use, as
// §5 recommends. It rejects the whole set if any part of it is ambiguous.
func parseJWKS(data []byte) (keys []key, skipped []skippedKey, _ error) {
	const invalid = "not a JSON Web Key Set: %w"
	set, err := strictjson.Schema{Members: []string{"keys"}}.Read(bytes.TrimPrefix(data, []byte("\ufeff")))
	if err != nil {
		return nil, nil, fmt.Errorf(invalid, err)
	}

	var all []json.RawMessage
	if err := set.Decode("keys", &all); err != nil {
		return nil, nil, fmt.Errorf(invalid, err)
	}
	if len(all) > maxKeys {
		return nil, nil, fmt.Errorf("%d keys; want at most %d", len(all), maxKeys)
	}

	for _, raw := range all {
		k, err := parseJWK(raw)
		if err != nil {
			skipped = append(skipped, skippedKey{k.id, err.Error()})
			continue
		}
		keys = append(keys, k)
	}

	if len(keys) == 0 && len(skipped) > 0 {
		first := skipped[0]
		return nil, nil, fmt.Errorf("none of %d keys is a public key for signatures; the first, with kid %q, is skipped: %s", len(all), first.id, first.reason)
	}

	if len(keys) == 0 {
		return nil, nil, errors.New("no keys")
	}

	return keys, skipped, nil
}

// parseJWK parses one key. If it returns an error, only the returned key's ID is set,
// and only if the ID could be read.
//
// It passes only known members to the library. Otherwise, the library would reject a
// key because of a certificate in x5c that it can't decode. The certificate is only
// another representation of the same key (RFC 7517 §4.7).
func parseJWK(raw []byte) (k key, _ error) {
	known := strictjson.Schema{Members: []string{"kty", "use", "key_ops", "alg", "kid", "crv", "x", "y", "n", "e"}}
	object, err := known.Read(raw)
	if err != nil {
		return k, err
	}

	var id, kind, use, alg string
	var operations []string

	if err := object.Decode("kid", &id); err != nil {
		return k, err
	}

	k.id = short(id)
	for member, into := range map[string]any{"kty": &kind, "use": &use, "alg": &alg, "key_ops": &operations} {
		if err := object.Decode(member, into); err != nil {
			return k, err
		}
	}

	switch {
	case !slices.Contains([]string{"RSA", "EC", "OKP"}, kind):
		return k, fmt.Errorf("kty is %q; want RSA, EC or OKP", short(kind))
	case use != "" && use != string(jwkset.UseSig):
		return k, fmt.Errorf("use is %q; want sig or none", short(use))
	case len(operations) > 0 && !slices.Contains(operations, string(jwkset.KeyOpsVerify)):
		return k, errors.New("key_ops lacks verify")
	}

	parameters, err := object.MarshalJSON()
	if err != nil {
		return k, err
	}

	parsed, err := jwkset.NewJWKFromRawJSON(parameters, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{SkipAll: true})
	if err != nil {
		return k, err
	}

	public, err := publicKey(parsed.Key())
	if err != nil {
		return k, err
	}
	if alg != "" && !slices.Contains(public.algorithms, canonical(alg)) {
		return k, fmt.Errorf("alg is %q; want one of %v", short(alg), public.algorithms)
	}
	if alg != "" {
		public.algorithms = []string{canonical(alg)}
	}

	public.id = id
	return public, nil
}

// short truncates a string from a key set for use in a log message.
func short(text string) string {
	const limit = 80
	if len(text) > limit {
		return string(bytes.ToValidUTF8([]byte(text[:limit]), nil)) + "…"
	}
	return text
}
