package broker_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
)

// TestPagesHaveNoGaps reads pages while messages are published, expire and are evicted,
// and compares them with a simple model. Pages have no duplicates, and no gaps except
// where the messages expired. Only messages that were evicted cause an error.
func TestPagesHaveNoGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) {
			l := newPagedLog(rt)
			defer l.broker.Close()
			rt.Repeat(map[string]func(*rapid.T){
				"publish": l.publish,
				"wait":    func(rt *rapid.T) { time.Sleep(time.Duration(rapid.IntRange(1, 40).Draw(rt, "seconds")) * time.Second) },
				"begin":   l.begin,
				"read":    l.read,
			})
		})
	})
}

// pagedLog is the model of TestPagesHaveNoGaps.
type pagedLog struct {
	broker  *broker.Broker
	all     []pagedMessage
	pending *pagedRead // nil if none has begun
}

type pagedMessage struct {
	id       string
	audience broker.Audience
	also     broker.Audience // the second topic; the zero Audience for none
	expires  time.Time       // zero for never
}

func (m pagedMessage) isFor(a broker.Audience) bool { return m.audience == a || m.also == a }

// pagedRead is a sequence of pages.
type pagedRead struct {
	broker.Read

	expected []pagedMessage // what newest-first pages may contain; nil for oldest first
	next     int            // index of the first message in pagedLog.all after the previous page
	got      []string
}

func newPagedLog(rt *rapid.T) *pagedLog {
	cfg := config()
	cfg.History = broker.History{
		MaxEvents: rapid.SampledFrom([]int{5, 20, 1000}).Draw(rt, "events"), MaxBytes: 1 << 20,
		MaxAge: rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(rt, "age"),
	}
	return &pagedLog{broker: broker.New(cfg)}
}

func drawAudience(rt *rapid.T) broker.Audience {
	return rapid.SampledFrom([]broker.Audience{broker.Everyone(), broker.ToTopic("a"), broker.ToTopic("b"), broker.ToUser("a")}).Draw(rt, "audience")
}

func (l *pagedLog) publish(rt *rapid.T) {
	for range rapid.IntRange(1, 10).Draw(rt, "n") {
		m := broker.Message{Audience: drawAudience(rt), Data: "x"}
		p := pagedMessage{audience: m.Audience}
		if m.Audience == broker.ToTopic("a") && rapid.Bool().Draw(rt, "two topics") {
			m.SetTopics([]string{"b", "a"})
			p.also = m.Audience
		}
		if rapid.IntRange(0, 3).Draw(rt, "ttl") == 0 {
			m.TTL = 30 * time.Second
			p.expires = time.Now().Add(m.TTL)
		}
		receipt, err := l.broker.Publish(rt.Context(), m)
		if err != nil {
			rt.Fatal(err)
		}
		p.id = receipt.ID
		l.all = append(l.all, p)
	}
}

// begin abandons the pending read and begins another one.
func (l *pagedLog) begin(rt *rapid.T) {
	r := &pagedRead{Read: broker.Read{Audience: drawAudience(rt), Newest: rapid.Bool().Draw(rt, "newest")}}
	if len(l.all) > 0 && rapid.Bool().Draw(rt, "has after") {
		i := rapid.IntRange(0, len(l.all)-1).Draw(rt, "after")
		r.After, r.next = l.all[i].id, i+1
	}
	if r.Newest {
		r.expected = slices.Clone(l.all[r.next:])
	}
	l.pending = r
}

// unexpired returns the ids of messages to the audience that haven't expired.
func unexpired(messages []pagedMessage, a broker.Audience) (ids []string) {
	for _, m := range messages {
		if m.isFor(a) && (m.expires.IsZero() || m.expires.After(time.Now())) {
			ids = append(ids, m.id)
		}
	}
	return ids
}

// read reads the next page of the pending read.
func (l *pagedLog) read(rt *rapid.T) {
	r := l.pending
	if r == nil {
		rt.Skip("nothing to read")
	}
	// Pages of newest messages are taken from what there is when the first page is read.
	if r.Newest && r.Position == "" {
		r.expected = slices.Clone(l.all[r.next:])
	}
	r.Limit = rapid.IntRange(1, 5).Draw(rt, "limit")
	page, err := l.broker.ReadMessages(rt.Context(), r.Read)
	if err != nil {
		l.checkError(rt, r, err)
		return
	}

	var got []string
	for _, m := range page.Messages {
		got = append(got, m.ID)
	}
	if r.Newest {
		l.checkNewest(rt, r, got, page.More)
	} else {
		l.checkOldest(rt, r, got, page)
	}
	r.got = append(r.got, got...)
	if len(got) > 0 {
		r.Cursor, r.Position = got[len(got)-1], page.Position
	}
	if !page.More {
		l.pending = nil
	}
}

// checkOldest checks that a page, oldest first, continues after the previous page.
func (l *pagedLog) checkOldest(rt *rapid.T, r *pagedRead, got []string, page broker.ReadPage) {
	want := unexpired(l.all[r.next:], r.Audience)
	if fromStart := r.After == "" && r.Cursor == ""; fromStart && len(got) > 0 {
		want = want[max(slices.Index(want, got[0]), 0):]
	} else if fromStart {
		want = nil
	}
	if !slices.Equal(got, want[:min(len(got), len(want))]) || page.More != (len(got) < len(want)) {
		rt.Fatalf("read %v, more %v; want the start of %v", got, page.More, want)
	}
	if end, _ := l.broker.Position(); !page.More && page.Position != end || page.More && page.Position != got[len(got)-1] {
		rt.Fatalf("the page %v ends at the position %s; the end is %s", got, page.Position, end)
	}
	if len(got) > 0 {
		r.next = 1 + slices.IndexFunc(l.all, func(m pagedMessage) bool { return m.id == got[len(got)-1] })
	}
}

// checkNewest checks that a page, newest first, continues before the previous page.
func (l *pagedLog) checkNewest(rt *rapid.T, r *pagedRead, got []string, more bool) {
	left := r.expected
	if n := len(r.got); n > 0 {
		left = left[:slices.IndexFunc(left, func(m pagedMessage) bool { return m.id == r.got[n-1] })]
	}
	want := unexpired(left, r.Audience)
	slices.Reverse(want)
	if !slices.Equal(got, want[:min(len(got), len(want))]) || r.After != "" && more != (len(got) < len(want)) {
		rt.Fatalf("read %v, more %v; want the start of %v", got, more, want)
	}
}

// checkError checks that a message after the position of r has left the history.
func (l *pagedLog) checkError(rt *rapid.T, r *pagedRead, err error) {
	if position, ok := errors.AsType[*broker.PositionError](err); !ok || position.Reason != broker.ResetExpired {
		rt.Fatal(err)
	}
	page, err := l.broker.ReadMessages(rt.Context(), broker.Read{Audience: r.Audience, Limit: 1})
	if err != nil {
		rt.Fatal(err)
	}
	oldest := ""
	if len(page.Messages) > 0 {
		oldest = page.Messages[0].ID
	}
	// An evicted message may have expired since.
	missed := slices.IndexFunc(l.all[r.next:], func(m pagedMessage) bool { return m.isFor(r.Audience) })
	if missed < 0 || l.all[r.next+missed].id == oldest {
		rt.Fatalf("%+v returned an error, but the history goes back to %q", r.Read, oldest)
	}
	l.pending = nil
}
