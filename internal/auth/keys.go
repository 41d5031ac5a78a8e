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

// minRSA is the shortest RSA key in bits (RFC 7518 §3.3).
const minRSA = 2048

// key can check signatures. Which algorithms it is for is a matter of what it
// is: a public key is none of HMAC's, whatever a token says.
type key struct {
	id         string // its "kid"; empty for one that has none
	algorithms []string
	material   jwt.VerificationKey
}

// secretKey is the key of an HMAC: RFC 7518 §3.2 wants it no shorter than the
// output of the hash.
func secretKey(secret []byte) key {
	k := key{material: secret}
	for _, m := range []*jwt.SigningMethodHMAC{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
		if len(secret) >= m.Hash.Size() {
			k.algorithms = append(k.algorithms, m.Alg())
		}
	}
	return k
}

// publicKey is the key of what signs with the private half.
func publicKey(material crypto.PublicKey) (key, error) {
	k := key{material: material}
	switch m := material.(type) {
	case *rsa.PublicKey:
		if n := m.N.BitLen(); n < minRSA {
			return key{}, fmt.Errorf("an RSA key of %d bits, at least %d are needed", n, minRSA)
		}
		k.algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		alg, ok := map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[m.Curve.Params().Name]
		if !ok {
			return key{}, fmt.Errorf("an elliptic curve key on %s, accepted are P-256, P-384 and P-521", m.Curve.Params().Name)
		}
		k.algorithms = []string{alg}
	case ed25519.PublicKey:
		k.algorithms = []string{"EdDSA"}
	default:
		return key{}, fmt.Errorf("a %T, accepted are RSA, ECDSA and Ed25519 public keys", material)
	}

	return k, nil
}

// asymmetric are the algorithms of all public keys.
func asymmetric() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// fitting returns those of keys that may have signed a token of this algorithm
// and key id, and whether any is for the algorithm. A token that names no key
// may be of the only one there is.
func fitting(keys []key, alg, id string) (found []jwt.VerificationKey, known bool) {
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
		// Trying all of them would be work that a stranger could ask for.
		found = nil
	}

	return found, sameAlgorithm > 0
}

// parsePEM reads public keys and certificates.
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
		return nil, nil, errors.New("there is no PEM block")
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
	return nil, fmt.Errorf("a PEM block %q, accepted are PUBLIC KEY, RSA PUBLIC KEY and CERTIFICATE", block.Type)
}
