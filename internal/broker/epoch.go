package broker

import (
	"math/rand/v2"
	"strconv"
	"time"
)

// epochRandom bounds the random part of an epoch: five digits of base 36.
const epochRandom = 36 * 36 * 36 * 36 * 36

// NewEpoch returns an epoch that no other log has: the time in milliseconds and
// a random number, in digits and small letters. The random part tells logs apart
// that begin in the same millisecond, or after a clock was set back.
func NewEpoch() string {
	return strconv.FormatInt(time.Now().UnixMilli(), 36) + strconv.FormatUint(epochRandom+rand.Uint64N(epochRandom), 36)[1:]
}
