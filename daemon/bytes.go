package daemon

import (
	"fmt"
	"math"
	"strconv"

	"github.com/dustin/go-humanize"
)

// Bytes is an amount of memory. As text it is a plain number or one with a unit
// (64KiB, 1MiB).
type Bytes int64

// String gives the amount in the largest unit that says it exactly.
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

// MarshalText is [Bytes.String].
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText accepts what String gives, and any other amount with a decimal
// or binary unit.
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
