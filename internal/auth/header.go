package auth

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/internal/strictjson"
)

// checkHeader returns a *RefusedError if the members of a token's header that
// are read later are ambiguous. Other members are ignored (RFC 7515 §4). A
// header that can't be decoded is left to the parser.
func checkHeader(token string) error {
	encoded, _, _ := strings.Cut(token, ".")
	header, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil //nolint:nilerr // the parser returns it
	}
	known := strictjson.Schema{Members: []string{"alg", "kid", "crit"}}
	_, err = known.Read(header)
	wrong, ok := errors.AsType[*strictjson.Error](err)
	if !ok || wrong.Problem == strictjson.NotJSON {
		return nil
	}
	return &RefusedError{Reason: Malformed, malformation: malformation("header is", wrong)}
}

// registerEd25519 lets the parser find the algorithm "Ed25519" (RFC 9864 §2.2),
// which is "EdDSA" with a key on that curve. Repeated calls change nothing.
func registerEd25519() {
	jwt.RegisterSigningMethod(ed25519Name, func() jwt.SigningMethod { return jwt.SigningMethodEdDSA })
}

// ed25519Name is the other name of EdDSA.
const ed25519Name = "Ed25519"

// canonical returns the one name of an algorithm that may have two.
func canonical(alg string) string {
	if alg == ed25519Name {
		return jwt.SigningMethodEdDSA.Alg()
	}
	return alg
}
