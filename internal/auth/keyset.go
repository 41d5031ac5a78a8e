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

// maxKeys bounds a JSON Web Key Set.
const maxKeys = 1000

// skippedKey is a key of a set that is not used, and why.
type skippedKey struct{ id, reason string }

// parseJWKS reads a JSON Web Key Set (RFC 7517). It skips keys that it can't
// use, as §5 recommends. A set that is ambiguous anywhere is an error as a
// whole.
func parseJWKS(data []byte) (keys []key, skipped []skippedKey, _ error) {
	const unreadable = "it is no JSON Web Key Set: %w"
	set, err := strictjson.Schema{Members: []string{"keys"}}.Read(bytes.TrimPrefix(data, []byte("\ufeff")))
	if err != nil {
		return nil, nil, fmt.Errorf(unreadable, err)
	}

	var all []json.RawMessage
	if err := set.Decode("keys", &all); err != nil {
		return nil, nil, fmt.Errorf(unreadable, err)
	}
	if len(all) > maxKeys {
		return nil, nil, fmt.Errorf("it has %d keys, at most %d are accepted", len(all), maxKeys)
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
		return nil, nil, fmt.Errorf("none of its %d keys is a public key for signatures; the first has the kid %q and is skipped: %s", len(all), first.id, first.reason)
	}

	if len(keys) == 0 {
		return nil, nil, errors.New("it has no keys")
	}

	return keys, skipped, nil
}

// parseJWK reads one key. With an error the key has only its id, if even that
// could be read.
//
// The members that are read are passed on to the library, and no others: it
// would reject a key for a certificate that it can't decode, such as x5c, which
// is only another way to write the same key (RFC 7517 §4.7).
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
		return k, fmt.Errorf("its kty is %q; want RSA, EC or OKP", short(kind))
	case use != "" && use != string(jwkset.UseSig):
		return k, fmt.Errorf("its use is %q; want sig, or none", short(use))
	case len(operations) > 0 && !slices.Contains(operations, string(jwkset.KeyOpsVerify)):
		return k, errors.New("its key_ops lack verify")
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
		return k, fmt.Errorf("its alg is %q; want one of %v", short(alg), public.algorithms)
	}
	if alg != "" {
		public.algorithms = []string{canonical(alg)}
	}

	public.id = id
	return public, nil
}

// short returns a text of a key set, fit for a log line.
func short(text string) string {
	const most = 80
	if len(text) > most {
		return string(bytes.ToValidUTF8([]byte(text[:most]), nil)) + "…"
	}
	return text
}
