package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// minRSA is the minimum size of an RSA key, in bits (RFC 7518 §3.3).
const minRSA = 2048

// key verifies signatures. The type of its material determines the algorithms: a public
// key is never used for HMAC, even if a token asks for that.
type key struct {
	id         string // its "kid"; empty if it has none
	algorithms []string
	material   jwt.VerificationKey
}

// secretKey returns the key for an HMAC secret. RFC 7518 §3.2 requires the secret to be
// at least as long as the hash.
func secretKey(secret []byte) key {
	k := key{material: secret}
	for _, m := range []*jwt.SigningMethodHMAC{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
		if len(secret) >= m.Hash.Size() {
			k.algorithms = append(k.algorithms, m.Alg())
		}
	}
	return k
}

// publicKey returns the key for a public key.
func publicKey(material crypto.PublicKey) (key, error) {
	k := key{material: material}
	switch m := material.(type) {
	case *rsa.PublicKey:
		if n := m.N.BitLen(); n < minRSA {
			return key{}, fmt.Errorf("an RSA key of %d bits; want at least %d", n, minRSA)
		}
		k.algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		alg, ok := map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[m.Curve.Params().Name]
		if !ok {
			return key{}, fmt.Errorf("an elliptic curve key on %s; want P-256, P-384 or P-521", m.Curve.Params().Name)
		}
		k.algorithms = []string{alg}
	case ed25519.PublicKey:
		k.algorithms = []string{"EdDSA"}
	default:
		return key{}, fmt.Errorf("a %T; want an RSA, ECDSA or Ed25519 public key", material)
	}

	return k, nil
}

// asymmetric returns the algorithms that use public keys.
func asymmetric() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// candidates returns the keys that may have signed a token with this algorithm and
// key ID, and reports whether any key matches the algorithm. A token without a key ID
// matches a key only if no other key matches the algorithm.
func candidates(keys []key, alg, id string) (found []jwt.VerificationKey, known bool) {
	sameAlgorithm := 0
	for _, k := range keys {
		if !slices.Contains(k.algorithms, alg) {
			continue
		}
		sameAlgorithm++
		if k.id == "" || id == "" || k.id == id {
			found = append(found, k.material)
		}
	}

	if id == "" && sameAlgorithm > 1 {
		// Don't try all keys: otherwise, anyone could make the daemon do that much
		// work.
		found = nil
	}

	return found, sameAlgorithm > 0
}

// parsePEM parses a PEM file that contains public keys or certificates.
func parsePEM(data []byte) ([]key, []skippedKey, error) {
	var keys []key
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}

		material, err := parseBlock(block)
		if err != nil {
			return nil, nil, err
		}

		k, err := publicKey(material)
		if err != nil {
			return nil, nil, err
		}

		keys = append(keys, k)
	}

	if len(keys) == 0 {
		return nil, nil, errors.New("no PEM block found")
	}

	return keys, nil, nil
}

func parseBlock(block *pem.Block) (crypto.PublicKey, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return certificate.PublicKey, nil
	}
	return nil, fmt.Errorf("a PEM block of type %q; want PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE", block.Type)
}
