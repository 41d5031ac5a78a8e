package daemon

import (
	"fmt"
	"math"
	"strconv"

	"github.com/dustin/go-humanize"
)

// Bytes is a size in bytes. Its text form is a number of bytes, or a number with a unit
// (64KiB, 1MiB).
type Bytes int64

// String returns the size in the largest binary unit that represents it exactly.
func (b Bytes) String() string {
	switch {
	case b != 0 && b%(1<<30) == 0:
		return strconv.FormatInt(int64(b>>30), 10) + "GiB"
	case b != 0 && b%(1<<20) == 0:
		return strconv.FormatInt(int64(b>>20), 10) + "MiB"
	case b != 0 && b%(1<<10) == 0:
		return strconv.FormatInt(int64(b>>10), 10) + "KiB"
	default:
		return strconv.FormatInt(int64(b), 10)
	}
}

// MarshalText implements [encoding.TextMarshaler]. It returns [Bytes.String].
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. It accepts what String returns,
// as well as any size with a decimal or binary unit.
func (b *Bytes) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(string(text))
	if err != nil {
		return fmt.Errorf("parse size: %w", err)
	}
	if n > math.MaxInt64 {
		return fmt.Errorf("parse size: %q is too large", text)
	}
	*b = Bytes(n)

	return nil
}
