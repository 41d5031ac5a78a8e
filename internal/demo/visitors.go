package demo

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/peald/peald/internal/broker"
)

// Streams opens streams in process.
type Streams interface {
	NewStream(sub broker.Subscription) *broker.Stream
	// Banned reports whether a user is banned.
	Banned(user string) bool
}

const (
	stay = 45 * time.Second // how long a visitor stays on average
	away = 8 * time.Second  // how long a visitor is away on average
)

// visitors are made-up users whose streams give the console something to show.
// Like browsers, they reconnect after they are disconnected.
type visitors struct {
	streams Streams
	random  *rand.Rand
	all     []*visitor
}

// visitor is one browser tab of a made-up user.
type visitor struct {
	user   string
	topics []string
	wait   time.Duration // before the next stream, on average
	stream *broker.Stream
	conn   *sink
}

func newVisitors(streams Streams, random *rand.Rand) *visitors {
	v := &visitors{streams: streams, random: random}
	if streams == nil {
		return v
	}

	for _, tab := range []visitor{
		{user: "amir", topics: []string{"prices.*"}},
		{user: "chiara", topics: []string{"prices.bells", "stock.bells"}},
		{user: "chiara"},
		{user: "elif", topics: []string{"chat.workshop"}},
		{user: "hiro", topics: []string{"prices.gongs"}},
		{user: "hiro", topics: []string{"stock.*"}},
		{user: "kasia", topics: []string{"chat.workshop", "prices.*"}},
		{user: "nadia"},
		{user: "olu", topics: []string{"stock.*"}},
		{user: "priya", topics: []string{"chat.workshop"}},
		{user: "priya", topics: []string{"prices.chimes"}},
	} {
		v.all = append(v.all, &tab)
	}

	return v
}

// comeAndGo opens and closes some streams. It is called once a round.
func (v *visitors) comeAndGo() {
	for _, tab := range v.all {
		switch {
		case tab.stream == nil && v.happens(tab.wait) && !v.streams.Banned(tab.user):
			tab.connect(v.streams)
		case tab.stream != nil && tab.conn.closed.Load():
			tab.stream, tab.wait = nil, away
		case tab.stream != nil && v.happens(stay):
			tab.stream.HangUp()
		}
	}
}

// happens returns true at random, on average once in each period of length every.
func (v *visitors) happens(every time.Duration) bool {
	return v.random.Float64()*float64(every) < float64(round)
}

// leave closes all streams.
func (v *visitors) leave() {
	for _, tab := range v.all {
		if tab.stream != nil {
			tab.stream.HangUp()
		}
	}
}

// connect opens a stream. If the broker rejects it, the next round tries again.
func (tab *visitor) connect(streams Streams) {
	conn := &sink{}
	stream := streams.NewStream(broker.Subscription{User: tab.user, Topics: tab.topics})

	if stream.Start(conn, broker.Opening{}) == nil {
		tab.stream, tab.conn = stream, conn
	}
}

// sink is the connection of a visitor. It discards everything that it receives.
type sink struct{ closed atomic.Bool }

// Write implements [broker.Sink].
func (*sink) Write(pieces [][]byte) (n int, err error) {
	for _, piece := range pieces {
		n += len(piece)
	}

	return n, nil
}

// Close implements [broker.Sink].
func (s *sink) Close(broker.Reason) { s.closed.Store(true) }
