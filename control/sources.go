package control

import (
	"strings"
	"time"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// Source is the status of a source on this node. Its fields are those of pealv1.Source.
type Source struct {
	Name, Kind string
	// State is the name of a pealv1.SourceState, such as "active".
	State string
	// Lag is negative if it is unknown.
	Lag                           int64
	Oldest                        time.Time // zero if it is unknown
	Published, Rejected, Failures int64
	LastError                     string
	LastErrorAt                   time.Time // zero if there was no error
}

// sourceMessages returns the status of each source on this node.
func (s *Service) sourceMessages() (all []*pealv1.Source) {
	if s.sources == nil {
		return nil
	}

	for _, status := range s.sources() {
		m := &pealv1.Source{
			Name:      status.Name,
			Node:      s.nodeName(),
			Kind:      status.Kind,
			State:     pealv1.SourceState(pealv1.SourceState_value["SOURCE_STATE_"+strings.ToUpper(status.State)]),
			Published: status.Published,
			Rejected:  status.Rejected,
			Failures:  status.Failures,
			LastError: status.LastError,

			OldestRecord: timeMessage(status.Oldest),
			LastErrorAt:  timeMessage(status.LastErrorAt),
		}
		if status.Lag >= 0 {
			m.Lag = &pealv1.Source_LagRecords{LagRecords: status.Lag}
		}
		all = append(all, m)
	}

	return all
}
