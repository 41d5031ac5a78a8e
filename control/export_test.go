package control

import pealv1 "github.com/peald/peald/gen/peal/v1"

// MaxNames is the maximum number of caller names that have a limiter.
const MaxNames = maxNames

// RateLimits exposes the rate limits without a caller for each name.
type RateLimits struct{ limits *rateLimits }

// NewRateLimits returns limits of perSecond calls per second.
func NewRateLimits(perSecond int) RateLimits {
	l := newRateLimits()
	l.set(perSecond)

	return RateLimits{l}
}

// Take counts a call by name, or rejects it.
func (l RateLimits) Take(name string) error {
	return l.limits.take(caller{name: name}, pealv1.ControlService_Stats_FullMethodName, 1)
}

// Names returns the number of names that have a limiter.
func (l RateLimits) Names() int { return l.limits.byName.Len() }

// ReencodeMessageToken returns the text of a page token after it was parsed, or false if
// it was rejected.
func ReencodeMessageToken(text string) (again string, ok bool) {
	token, err := parseMessageToken(text)

	return token.String(), err == nil
}

// DecodeBatch decodes a request to publish a batch.
func DecodeBatch(data []byte, batch *pealv1.PublishBatchRequest) error {
	return decodeBatch(data, batch)
}
