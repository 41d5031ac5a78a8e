package broker

import (
	"encoding/json"

	"github.com/peald/peald/internal/eventstream"
)

// resetEvent tells a client that events are missing in its stream from here
// on, and why. It carries no id of its own, so that a client that reconnects
// right after it still asks for what it missed.
func (b *Broker) resetEvent(reason string, lastSeq uint64) *event {
	data, err := json.Marshal(struct {
		Reason      string `json:"reason"`
		LastEventID string `json:"last_event_id"`
	}{reason, string(appendID(nil, b.epoch, lastSeq))})
	if err != nil {
		panic(err) // two strings can always be marshalled
	}
	return &event{hole: true, frame: eventstream.AppendEvent(nil, "", ReservedTypes+"reset", string(data))}
}
