package broker

import (
	"encoding/json"
	"slices"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/eventstream"
)

// overflow is the data of a reset for dropped events.
type overflow struct {
	Reason      string `json:"reason"`
	LastEventID string `json:"last_event_id"`
}

// findReset returns the queue's new reset for dropped events, which must have the
// given data.
func (m *queueModel) findReset(rt *rapid.T, want overflow) *event {
	if m.sink.closed {
		return resetEvent(newBlock(), "", want.Reason, want.LastEventID) // of a queue that is gone
	}
	q := &m.stream.queue
	i := slices.IndexFunc(q.events[q.head:], func(e *event) bool { return e.gap && !slices.Contains(m.items, e) })
	if i < 0 {
		rt.Fatal("events were dropped without a reset")
	}

	e := q.events[int(q.head)+i]
	var got overflow
	d := eventstream.Decoder{OnEvent: func(e eventstream.Event) {
		if err := json.Unmarshal(e.Data, &got); err != nil || string(e.Type) != "peald.reset" {
			rt.Errorf("got the event %q with data %q (%v)", e.Type, e.Data, err)
		}
	}}
	_, _ = d.Write(e.frame.block())
	if got != want {
		rt.Errorf("the reset has data %+v, want %+v", got, want)
	}
	return e
}
