package broker

import (
	"math/rand/v2"
	"strconv"
	"time"
)

// epochRandom is the upper bound of an epoch's random part: five base-36 digits.
const epochRandom = 36 * 36 * 36 * 36 * 36

// NewEpoch returns a unique epoch for an event log: the time in milliseconds
// followed by a random number, in digits and lowercase letters. The random part
// distinguishes logs that begin in the same millisecond, or after the clock was set
// back.
func NewEpoch() string {
	return strconv.FormatInt(time.Now().UnixMilli(), 36) + strconv.FormatUint(epochRandom+rand.Uint64N(epochRandom), 36)[1:]
}
