package broker_test

import (
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
)

// drawnStart describes where a new stream starts.
type drawnStart struct {
	kind   string // "now", "all", "ago", "time" or "rewind"
	ago    time.Duration
	events int
}

func drawStart(rt *rapid.T) (s drawnStart) {
	s.kind = rapid.SampledFrom([]string{"now", "now", "all", "ago", "time", "rewind"}).Draw(rt, "start")
	switch s.kind {
	case "ago", "time":
		s.ago = time.Duration(rapid.IntRange(1, 200).Draw(rt, "ago")) * time.Second
	case "rewind":
		s.events = rapid.OneOf(rapid.IntRange(1, 10), rapid.IntRange(1, broker.MaxRewind)).Draw(rt, "rewind")
	}
	return s
}

// of returns the start as the broker expects it.
func (s drawnStart) of() broker.Start {
	switch s.kind {
	case "all":
		return broker.SinceAll()
	case "ago":
		return broker.SinceAgo(s.ago)
	case "time":
		return broker.SinceTime(time.Now().Add(-s.ago))
	case "rewind":
		return broker.Rewind(s.events)
	}
	return broker.Start{}
}

// expect sets what a client must get that starts a stream now, without a last event id:
// what the history holds, and a reset at the start if that isn't all.
func (w *world) expect(rt *rapid.T, r *reader, s drawnStart) {
	kept := w.held(rt)
	var since time.Time
	switch s.kind {
	case "all", "rewind":
	case "ago", "time":
		since = time.Now().Add(-s.ago)
		r.opening = w.openingSince(r, since, kept)
	default:
		if len(w.sent) > 0 {
			r.pos = w.sent[len(w.sent)-1].seq
		}
		return
	}

	r.gone = make(map[uint64]bool)
	left := s.events
	for _, p := range slices.Backward(w.sent) {
		held := kept.forReader(r, p)
		switch {
		case p.at.Before(since) || s.kind == "rewind" && left == 0:
			r.pos = p.seq // a stream may start no earlier than necessary
			return
		case !held:
			r.gone[p.seq] = true
		case r.entitled(p):
			left--
		}
	}
}

// holding holds the audiences for which the history holds an event, by its sequence number.
type holding map[uint64][]string

// forReader reports whether the history holds an event for the client. If the client isn't
// entitled to the event, it reports whether the history holds it at all.
func (h holding) forReader(r *reader, p published) bool {
	return slices.ContainsFunc(h[p.seq], func(to string) bool { return r.entitledBy(p, to) || !r.entitled(p) })
}

// complete reports whether the history holds an event for all of its audiences.
func (h holding) complete(p published) bool { return len(h[p.seq]) == len(p.audiences()) }

// held returns the events that the history holds.
func (w *world) held(rt *rapid.T) holding {
	all := make(holding)
	asked := make(map[string]bool)
	for _, p := range w.sent {
		for _, to := range p.audiences() {
			if !asked[to] {
				asked[to] = true
				w.heldFor(rt, to, all)
			}
		}
	}
	return all
}

// heldFor adds the events that the history holds for one audience.
func (w *world) heldFor(rt *rapid.T, to string, all holding) {
	end, err := w.broker.Position()
	if err != nil {
		rt.Fatal(err)
	}
	epoch, _, _ := strings.Cut(end, "-")
	tap, err := w.broker.Tap(audience(to), epoch+"-0")
	if err != nil {
		rt.Fatal(err)
	}
	defer tap.Close()
	for {
		batch, err := tap.Take()
		if err != nil {
			rt.Fatal(err)
		}
		for _, m := range batch.Messages {
			all[sequence(m.ID)] = append(all[sequence(m.ID)], to)
		}
		if batch.Position == end {
			return
		}
	}
}

// openingSince returns how a stream that starts at the given time begins: "reset" or
// "mark", or "" for either. If the history has forgotten which audiences it evicted
// events from, a reset may be unnecessary.
func (w *world) openingSince(r *reader, since time.Time, kept holding) string {
	if since.Before(w.began) {
		return "reset"
	}
	opening := "mark"
	for _, p := range w.sent {
		switch {
		case p.at.Before(since) || kept.complete(p):
		case p.expires.IsZero() && r.entitled(p) && !kept.forReader(r, p):
			return "reset"
		default:
			opening = ""
		}
	}
	return opening
}

func hasOwnPolicy(p broker.TopicPolicy) bool { return p.SlowConsumer != "" }

// drawPolicies draws policies for topics. Some of their patterns overlap.
func drawPolicies(rt *rapid.T) (policies []broker.TopicPolicy) {
	for _, pattern := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "a.*", "a.>", "c", ">"}), 0, 3).Draw(rt, "patterns") {
		p := broker.TopicPolicy{
			Pattern:      pattern,
			MaxEvents:    rapid.SampledFrom([]int{0, 1, 10}).Draw(rt, "topic events"),
			SlowConsumer: rapid.SampledFrom([]broker.SlowPolicy{"", broker.Disconnect, broker.DropOldest}).Draw(rt, "topic policy"),
		}
		if age := rapid.SampledFrom([]time.Duration{-1, 0, 30 * time.Second, time.Hour}).Draw(rt, "topic age"); age >= 0 {
			p.MaxAge = &age
		}
		policies = append(policies, p)
	}
	return policies
}

// reload replaces the policies for topics.
func (w *world) reload(rt *rapid.T) {
	w.cfg.Topics = drawPolicies(rt)
	w.mixed = w.mixed || slices.ContainsFunc(w.cfg.Topics, hasOwnPolicy)
	w.broker.Reconfigure(w.cfg)
}
