package broker

import (
	"encoding/json"

	"github.com/peald/peald/internal/eventstream"
)

// resetEvent returns an event that informs a client of a gap in its stream at
// this point, and of the reason.
//
// If the gap can no longer be filled, the reset also carries the id from which the
// stream continues. The reset and the id must be in one block: a client that
// receives the id without the reset would assume that it missed nothing. If the
// dropped events are still in the history, id is empty, so that a client that
// reconnects right after the reset requests them again.
func resetEvent(block []byte, id, reason, lastID string) *event {
	data, err := json.Marshal(struct {
		Reason      string `json:"reason"`
		LastEventID string `json:"last_event_id"`
	}{reason, lastID})
	if err != nil {
		panic(err) // two strings can always be marshaled
	}
	return &event{frame: sealFrame(eventstream.AppendEvent(block, id, ReservedTypes+"reset", string(data)), chunkRoom)}
}
