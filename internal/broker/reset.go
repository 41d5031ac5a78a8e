package broker

import (
	"encoding/json"

	"github.com/peald/peald/internal/eventstream"
)

// resetEvent tells a client that events are missing in its stream from here
// on, and why.
//
// Where the hole can't be filled any more, the reset carries the position that
// the stream goes on from: in one block, since a client that has the position
// without the reset would believe that it missed nothing. Where events were
// dropped and are still in the log, id is empty, so that a client that
// reconnects right after the reset asks for them.
func resetEvent(block []byte, id, reason, lastID string) *event {
	data, err := json.Marshal(struct {
		Reason      string `json:"reason"`
		LastEventID string `json:"last_event_id"`
	}{reason, lastID})
	if err != nil {
		panic(err) // two strings can always be marshalled
	}
	return &event{hole: id == "", frame: sealFrame(eventstream.AppendEvent(block, id, ReservedTypes+"reset", string(data)), chunkRoom)}
}
