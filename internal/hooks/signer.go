package hooks

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	secretPrefix = "whsec_"
	// The bounds for the size of a key, in bytes, as in the Standard Webhooks
	// specification.
	minKey, maxKey = 24, 64
)

// signer signs requests as Standard Webhooks specifies, once with each secret.
type signer []*standardwebhooks.Webhook

// CheckSecret returns an error that states, without including the secret, why it isn't
// valid. A valid secret is the text whsec_ followed by 24 to 64 random bytes in base64,
// or several of these separated by spaces.
func CheckSecret(secret string) error {
	_, err := newSigner(secret)
	return err
}

func newSigner(secret string) (signer, error) {
	var s signer
	for part := range strings.FieldsSeq(secret) {
		text, ok := strings.CutPrefix(part, secretPrefix)
		if !ok {
			return nil, fmt.Errorf("a secret without the prefix %s", secretPrefix)
		}
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, errors.New("a secret that isn't valid base64")
		}
		if len(key) < minKey || len(key) > maxKey {
			return nil, fmt.Errorf("a secret of %d bytes", len(key))
		}

		one, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return nil, errors.New("an unusable secret")
		}
		s = append(s, one)
	}

	if len(s) == 0 {
		return nil, errors.New("no secret")
	}
	return s, nil
}

// sign adds the headers that identify and authenticate a request.
func (s signer) sign(header http.Header, id string, body []byte, now time.Time) error {
	signatures := make([]string, 0, len(s))
	for _, one := range s {
		signature, err := one.Sign(id, now, body)
		if err != nil {
			return fmt.Errorf("signing a request: %w", err)
		}
		signatures = append(signatures, signature)
	}
	header.Set(standardwebhooks.HeaderWebhookID, id)
	header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return nil
}
