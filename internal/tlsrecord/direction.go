package tlsrecord

import (
	"crypto/cipher"
	"errors"
	"math"
)

// direction holds the keys of one direction.
type direction struct {
	secret [maxSecretSize]byte // the traffic secret, from which the next one is derived
	key    [maxKeySize]byte
	iv     [nonceSize]byte
	seq    uint64 // the sequence number of the next record under key
}

// start derives the keys from a traffic secret.
func (d *direction) start(s suite, secret []byte) error {
	if len(secret) != s.secretSize() {
		return errors.New("traffic secret has the wrong length for its hash")
	}

	copy(d.secret[:], secret)

	return d.deriveKeys(s)
}

// update replaces the traffic secret with the next one (RFC 8446 §7.2) and derives
// its keys. The previous secret's keys are overwritten.
func (d *direction) update(s suite) error {
	secret := d.secret[:s.secretSize()]
	if err := s.expandLabel(secret, secret, "traffic upd"); err != nil {
		return err
	}

	return d.deriveKeys(s)
}

// deriveKeys derives key and IV from the traffic secret (RFC 8446 §7.3).
func (d *direction) deriveKeys(s suite) error {
	secret := d.secret[:s.secretSize()]
	if err := s.expandLabel(d.key[:s.keySize()], secret, "key"); err != nil {
		return err
	}

	if err := s.expandLabel(d.iv[:], secret, "iv"); err != nil {
		return err
	}
	d.seq = 0

	return nil
}

func (d *direction) newAEAD(s suite) (cipher.AEAD, error) { return s.newAEAD(d.key[:s.keySize()]) }

// mask turns the IV into the nonce of the next record (RFC 8446 §5.3), and the nonce
// back into the IV. A separate variable for the nonce would be allocated on the heap
// for each record, because it is passed to an interface.
func (d *direction) mask() {
	for i := range 8 {
		d.iv[nonceSize-1-i] ^= byte(d.seq >> (8 * i))
	}
}

// seal encrypts a record in place. The record must consist of its header, the plaintext
// with its type, and room for the tag.
func (d *direction) seal(aead cipher.AEAD, record []byte) {
	header, inner := record[:headerSize], record[headerSize:len(record)-tagSize]

	d.mask()
	aead.Seal(inner[:0], d.iv[:], inner, header)
	d.mask()
	d.seq++
}

// open decrypts a whole record in place and returns the plaintext with its type and
// padding. The record is overwritten even if open fails.
func (d *direction) open(aead cipher.AEAD, record []byte) ([]byte, error) {
	if d.seq == math.MaxUint64 {
		return nil, errors.New("no sequence numbers left")
	}

	header, sealed := record[:headerSize], record[headerSize:]

	d.mask()
	inner, err := aead.Open(sealed[:0], d.iv[:], sealed, header)
	d.mask()

	if err != nil {
		return nil, err
	}
	d.seq++

	return inner, nil
}
