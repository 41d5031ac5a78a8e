package tlsrecord

import "unsafe"

// Size is the size of a Layer in bytes.
const Size = unsafe.Sizeof(Layer{})

// MaxRecords is the number of records after which Seal replaces its key.
const MaxRecords = maxRecords

// NewLayer returns a layer that starts with these traffic secrets.
func NewLayer(id uint16, client, server []byte) (*Layer, error) {
	return newLayer(suite(id), client, server)
}

// Mirror returns a layer for the other side of l's connection.
func (l *Layer) Mirror() *Layer {
	return &Layer{suite: l.suite, in: l.out, out: l.in}
}

// SkipTickets advances the sequence of sent records by those in sent that use its keys.
func (l *Layer) SkipTickets(sent []byte) error { return l.skipTickets(sent) }

// SetSequences sets the sequence numbers of the next records.
func (l *Layer) SetSequences(in, out uint64) { l.in.seq, l.out.seq = in, out }

// Sequences returns the sequence numbers of the next records.
func (l *Layer) Sequences() (in, out uint64) { return l.in.seq, l.out.seq }

// Keys returns the keys and IVs.
func (l *Layer) Keys() (inKey, inIV, outKey, outIV []byte) {
	size := l.suite.keySize()

	return l.in.key[:size], l.in.iv[:], l.out.key[:size], l.out.iv[:]
}

// Secrets returns the memory that holds secrets.
func (l *Layer) Secrets() [][]byte {
	return [][]byte{
		l.in.secret[:], l.in.key[:], l.in.iv[:],
		l.out.secret[:], l.out.key[:], l.out.iv[:],
	}
}

// RequestUpdate has the effect of a KeyUpdate that requests one in return.
func (l *Layer) RequestUpdate() { l.updateRequested.Store(true) }

// Update replaces the key for sending. The caller must have sealed a KeyUpdate.
func (l *Layer) Update() error { return l.out.update(l.suite) }

// SealInner seals a record with this plaintext, type and padding.
func (l *Layer) SealInner(inner []byte) ([]byte, error) {
	aead, err := l.out.newAEAD(l.suite)
	if err != nil {
		return nil, err
	}

	record := append(appendHeader(nil, len(inner)-1), inner...)
	record = append(record, make([]byte, tagSize)...)
	l.out.seal(aead, record)

	return record, nil
}

// ParseKeyLog returns the secrets that a line of a key log contains.
func ParseKeyLog(line string) (client, server []byte, err error) {
	var c, s secret

	_, err = keyLog{client: &c, server: &s}.Write([]byte(line))

	return c.bytes(), s.bytes(), err
}

// ShareBudget lets the layers keep this many expanded keys.
func ShareBudget(keys int64, layers ...*Layer) {
	shared := new(budget)
	shared.left.Store(keys)

	for _, l := range layers {
		l.budget = shared
	}
}

// KeepsExpanded reports whether the layer keeps its expanded key.
func (l *Layer) KeepsExpanded() bool { return l.expanded != nil }
