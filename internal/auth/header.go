package auth

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/internal/strictjson"
)

// checkHeader returns a *RejectedError if any relevant member of a token's header is
// ambiguous. It ignores other members (RFC 7515 §4), and leaves it to the parser to
// reject a header that can't be decoded.
func checkHeader(token string) error {
	encoded, _, found := strings.Cut(token, ".")
	if !found {
		return nil // not a JSON Web Token; the parser reports that
	}
	header, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil //nolint:nilerr // the parser returns the error
	}
	known := strictjson.Schema{Members: []string{"alg", "kid", "crit"}}
	_, err = known.Read(header)
	wrong, ok := errors.AsType[*strictjson.Error](err)
	if !ok || wrong.Problem == strictjson.NotJSON {
		return nil
	}
	return &RejectedError{Reason: Malformed, malformation: malformation("header is", wrong)}
}

// registerEd25519 registers the algorithm "Ed25519" (RFC 9864 §2.2) with the parser. It
// is the same as "EdDSA" with a key on that curve. Repeated calls have no effect.
func registerEd25519() {
	jwt.RegisterSigningMethod(ed25519Name, func() jwt.SigningMethod { return jwt.SigningMethodEdDSA })
}

// ed25519Name is another name for EdDSA.
const ed25519Name = "Ed25519"

// canonical returns the canonical name of an algorithm that may have two names.
func canonical(alg string) string {
	if alg == ed25519Name {
		return jwt.SigningMethodEdDSA.Alg()
	}
	return alg
}
