package broker_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/eventstream"
)

// TestEveryStreamGetsItsEvents runs random interleavings of publishes,
// connections, disconnections at any byte, resumes, expiries and new policies for
// topics. It checks that
// each client receives exactly the events it is entitled to, or a reset in
// place of a gap.
func TestEveryStreamGetsItsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) { // hides *testing.T, because its deadline is in real time
			w := newWorld(rt)
			defer w.broker.Close()
			rt.Repeat(map[string]func(*rapid.T){
				"publish": w.publish,
				"connect": w.connect,
				"read":    w.read,
				"stall":   w.stall,
				"cut":     w.cut,
				"time":    w.wait,
				"reload":  w.reload,
				"clear":   w.clear,
				"publishes": func(rt *rapid.T) {
					for range rapid.IntRange(1, 40).Draw(rt, "events") {
						w.publish(rt)
					}
				},
			})
			w.finish(rt)
		})
	})
}

// published is an event from the publisher's point of view.
type published struct {
	seq      uint64
	at       time.Time
	audience string   // "", "user:alice", "topic:a.b"
	topics   []string // further ones, if the audience is a topic
	exclude  string   // the user who doesn't get it
	expires  time.Time
	retain   bool
	key      string // the conflate key of a retained value
	final    bool
}

// world is a broker with its published events and its clients.
type world struct {
	broker  *broker.Broker
	cfg     broker.Config
	began   time.Time
	mixed   bool // topics have had policies of their own for slow consumers
	sent    []published
	values  map[valueKey]published // retained, including those that have expired
	ended   map[string]uint64      // the final event by topic; 0 if the topic was reopened
	clients []*reader
}

// reader is a client that checks what it receives.
type reader struct {
	name    string
	user    string
	topics  []string
	world   *world
	sink    *client // nil while it is not connected
	seen    int     // bytes of sink.got that have been decoded
	decoder eventstream.Decoder
	lastID  string
	// dispatched makes the client keep only the ids of dispatched events, like
	// Firefox and WebKitGTK.
	dispatched bool
	pos        uint64          // up to here, the client has received all its events or a reset
	opening    string          // "reset" or "mark" until the first block if it must be that
	gone       map[uint64]bool // events that the history didn't hold when the client's first stream started
	gap        bool            // a reset reported that events are missing before the next one
	// lossy is the last event published before a reset arrived, if topics have
	// policies of their own for slow consumers. Events up to it may be missing,
	// although others that precede them in the queue were kept.
	lossy   uint64
	failure string

	inValues bool     // the stream hasn't received its first position mark
	values   []uint64 // the retained values that it has received by then
	stopped  bool     // the topic has ended, and the server has nothing more for the client
	before   string   // the last event id before the current event
}

func newWorld(rt *rapid.T) *world {
	cfg := config()
	cfg.Shards = rapid.IntRange(1, 3).Draw(rt, "shards")
	cfg.QueueBytes = rapid.SampledFrom([]int{300, 2000, 1 << 20}).Draw(rt, "queue")
	cfg.SlowConsumer = rapid.SampledFrom([]broker.SlowPolicy{broker.Disconnect, broker.DropOldest}).Draw(rt, "policy")
	cfg.History = broker.History{
		MaxEvents: rapid.SampledFrom([]int{5, 50, 10_000}).Draw(rt, "events"),
		MaxBytes:  rapid.SampledFrom([]int{5_000, 1 << 20}).Draw(rt, "bytes"),
		MaxAge:    rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(rt, "age"),
	}
	cfg.Retain = broker.Retain{MaxEvents: 100, MaxBytes: 1 << 20}
	cfg.Topics = drawPolicies(rt)
	w := &world{broker: broker.New(cfg), cfg: cfg, began: time.Now(),
		values: make(map[valueKey]published), ended: make(map[string]uint64)}
	w.mixed = slices.ContainsFunc(cfg.Topics, hasOwnPolicy)
	return w
}

func (w *world) publish(rt *rapid.T) {
	size := rapid.OneOf(rapid.IntRange(1, 60), rapid.IntRange(350, 1000)).Draw(rt, "size") // stored or compressed in gzip bodies
	m := broker.Message{Data: strings.Repeat("x", size)}
	p := published{at: time.Now()}
	p.audience = rapid.SampledFrom([]string{"", "user:alice", "user:bob", "topic:a", "topic:a.b", "topic:c"}).Draw(rt, "audience")
	m.Audience = audience(p.audience)
	w.drawRetained(rt, &m, &p)
	drawFurther(rt, &m, &p)
	if rapid.IntRange(0, 5).Draw(rt, "ttl") == 0 {
		m.TTL = 20 * time.Second
		p.expires = time.Now().Add(m.TTL)
	}
	receipt, err := w.broker.Publish(rt.Context(), m)
	if err != nil {
		rt.Fatal(err)
	}
	p.seq = sequence(receipt.ID)
	w.sent = append(w.sent, p)
	w.retained(p)
	if rapid.Bool().Draw(rt, "settle") {
		synctest.Wait()
	}
}

func (w *world) connect(rt *rapid.T) {
	var r *reader
	if i := rapid.IntRange(0, max(len(w.clients), 4)).Draw(rt, "client"); i < len(w.clients) {
		if r = w.clients[i]; r.sink != nil {
			return
		}
	} else {
		r = &reader{name: strconv.Itoa(len(w.clients)), world: w, dispatched: rapid.Bool().Draw(rt, "dispatched")}
		r.user = rapid.SampledFrom([]string{"", "alice", "bob"}).Draw(rt, "user")
		r.topics = rapid.SampledFrom([][]string{nil, {"a"}, {"a", "c"}, {"a.*"}, {">"}, {"a", "a.*", "a.b"}}).Draw(rt, "topics")
		w.clients = append(w.clients, r)
	}
	room := rapid.SampledFrom([]int{-1, 0, 100, 1000}).Draw(rt, "room")
	r.connect(rt, room)
	if rapid.Bool().Draw(rt, "settle") {
		synctest.Wait()
	}
}

// any returns one of the connected clients, or nil.
func (w *world) any(rt *rapid.T) *reader {
	connected := slices.DeleteFunc(slices.Clone(w.clients), func(r *reader) bool { return r.sink == nil })
	if len(connected) == 0 {
		return nil
	}
	return connected[rapid.IntRange(0, len(connected)-1).Draw(rt, "client")]
}

func (w *world) read(rt *rapid.T) {
	if r := w.any(rt); r != nil {
		r.sink.drain(rapid.IntRange(1, 2000).Draw(rt, "bytes"))
		synctest.Wait()
		r.decode(rt)
	}
}

// stall makes a connection accept nothing more. If everything has been written, it
// is full at the end of an event.
func (w *world) stall(rt *rapid.T) {
	if r := w.any(rt); r != nil {
		synctest.Wait()
		r.sink.drain(0)
	}
}

// cut breaks a connection at any byte that the client hasn't read yet.
func (w *world) cut(rt *rapid.T) {
	if r := w.any(rt); r != nil {
		synctest.Wait()
		text := r.sink.text()
		until := rapid.IntRange(r.seen, len(text)).Draw(rt, "cut")
		_, _ = r.decoder.Write([]byte(text[r.seen:until]))
		r.disconnected(rt)
	}
}

func (w *world) wait(rt *rapid.T) {
	time.Sleep(time.Duration(rapid.IntRange(1, 40).Draw(rt, "seconds")) * time.Second)
	synctest.Wait()
	for _, r := range w.clients {
		r.decode(rt)
	}
}

// finish makes every client read everything, and checks that nothing is missing
// at the end.
func (w *world) finish(rt *rapid.T) {
	for _, r := range w.clients {
		for range 100 {
			if r.sink == nil {
				if r.connect(rt, -1); r.stopped {
					break
				}
			} else {
				r.sink.drain(-1)
			}
			synctest.Wait()
			if r.decode(rt); r.sink != nil {
				break
			}
		}
		if missing := w.missing(r, r.pos, 1<<63); len(missing) > 0 && !r.gap && !r.stopped {
			rt.Fatalf("client %s (user %q, topics %q) never got %v, nor a reset", r.name, r.user, r.topics, missing)
		}
	}
}

// missing returns the events, after one position and up to another, that the client
// is entitled to and that never expire.
func (w *world) missing(r *reader, after, upTo uint64) (seqs []uint64) {
	for _, p := range w.sent {
		if p.seq > max(after, r.lossy) && p.seq <= upTo && r.entitled(p) && p.expires.IsZero() && !r.gone[p.seq] {
			seqs = append(seqs, p.seq)
		}
	}
	return seqs
}

func (r *reader) entitled(p published) bool {
	return slices.ContainsFunc(p.audiences(), func(to string) bool { return r.entitledBy(p, to) })
}

// entitledBy reports whether the client is entitled to p because it belongs to one of its
// audiences.
func (r *reader) entitledBy(p published, to string) bool {
	if p.exclude != "" && r.user == p.exclude {
		return false
	}
	kind, name, _ := strings.Cut(to, ":")
	switch kind {
	case "user":
		return r.user == name
	case "topic":
		return slices.ContainsFunc(r.topics, func(t string) bool { return broker.Covers(t, name) })
	}
	return true
}

// connect opens a stream from the client's position.
func (r *reader) connect(rt *rapid.T, room int) {
	var start drawnStart
	r.opening = ""
	if r.stopped = r.done(rt); r.stopped {
		return
	}
	if r.lastID == "" {
		r.startValues()
		start = drawStart(rt)
		r.pos, r.gone = 0, nil
		synctest.Wait() // compressed copies count against the history's limits
		r.world.expect(rt, r, start)
	}
	r.seen, r.before = 0, ""
	r.decoder = eventstream.Decoder{OnEvent: r.onEvent}
	form := broker.Opening{Chunked: rapid.Bool().Draw(rt, "chunked"), Gzip: rapid.Bool().Draw(rt, "gzip")}
	r.sink = &client{room: room, form: form, stream: r.world.broker.NewStream(broker.Subscription{User: r.user, Topics: r.topics, LastEventID: r.lastID, Start: start.of()})}
	if err := r.sink.stream.Start(r.sink, form); err != nil {
		rt.Fatal(err)
	}
}

// decode decodes what has arrived, and checks whether the broker has closed the
// stream.
func (r *reader) decode(rt *rapid.T) {
	if r.sink == nil {
		return
	}
	text := r.sink.text()
	_, _ = r.decoder.Write([]byte(text[r.seen:]))
	r.seen = len(text)
	if closed, _ := r.sink.closed(); closed {
		r.disconnected(rt)
	}
	r.check(rt)
}

func (r *reader) disconnected(rt *rapid.T) {
	if !r.dispatched {
		r.lastID = r.decoder.LastEventID()
	}
	if closed, _ := r.sink.closed(); !closed {
		r.sink.stream.HangUp()
		synctest.Wait()
	}
	r.sink = nil
	// The client requests again the events that were missing before a reset without
	// an id.
	r.gap, r.lossy = false, 0
	if r.inValues {
		r.inValues, r.pos = false, sequence(r.lastID)
	}
	r.check(rt)
}

func (r *reader) check(rt *rapid.T) {
	if r.failure != "" {
		rt.Fatalf("client %s (user %q, topics %q): %s", r.name, r.user, r.topics, r.failure)
	}
	if r.sink != nil && r.decoder.LastEventID() != "" && !r.inValues {
		// A mark means that all events up to it have been sent.
		if at := sequence(r.decoder.LastEventID()); at > r.pos && !r.gap {
			if missing := r.world.missing(r, r.pos, at); len(missing) > 0 {
				rt.Fatalf("client %s (user %q, topics %q): the mark %d was sent before %v", r.name, r.user, r.topics, at, missing)
			}
			r.pos = at
		}
	}
}

func (r *reader) onEvent(e eventstream.Event) {
	at, before := sequence(string(e.ID)), r.before
	r.before = string(e.ID)
	if r.dispatched {
		r.lastID = string(e.ID)
	}

	i := slices.IndexFunc(r.world.sent, func(p published) bool { return p.seq == at })
	if r.inValues && !strings.HasPrefix(string(e.Type), broker.ReservedTypes) && i >= 0 {
		r.onValue(r.world.sent[i])
		return
	}

	block, _ := strings.CutPrefix(string(e.Type), "peald.")
	overflow := block == "reset" && strings.Contains(string(e.Data), "overflow")
	if r.opening != "" && block != r.opening && !overflow {
		r.failure = fmt.Sprintf("the stream starts with %q, want %q", block, r.opening)
	}
	if !overflow {
		r.opening = ""
	}

	if string(e.Type) == eventstream.MarkType {
		r.onMark(at)
		return // check reads its position
	}

	if string(e.Type) == "peald.end" {
		r.onEnd(e)
		return
	}

	if block == "reset" {
		r.onReset(at, overflow, string(e.ID) != before)
		return
	}

	switch {
	case at <= r.pos:
		r.failure = fmt.Sprintf("event %d is a duplicate or out of order after %d", at, r.pos)
	case i < 0 || !r.entitled(r.world.sent[i]):
		r.failure = fmt.Sprintf("event %d is for another audience", at)
	case !r.gap:
		if missing := r.world.missing(r, r.pos, at-1); len(missing) > 0 {
			r.failure = fmt.Sprintf("event %d arrived without %v before it", at, missing)
		}
	}

	r.pos, r.gap = at, false
}

// sequence returns the number in an id.
func sequence(id string) uint64 {
	_, digits, _ := strings.Cut(id, "-")
	n, _ := strconv.ParseUint(digits, 10, 64)
	return n
}
