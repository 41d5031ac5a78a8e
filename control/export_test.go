package control

import pealv1 "github.com/peald/peald/gen/peal/v1"

// MaxNames is the most names whose calls are counted.
const MaxNames = maxNames

// Limits gives tests what bounds calls, without a caller for each name.
type Limits struct{ of *limits }

// NewLimits returns Limits of so many calls a second.
func NewLimits(perSecond int) Limits {
	l := newLimits()
	l.set(perSecond)
	return Limits{l}
}

// Take counts a call of name, or refuses it.
func (l Limits) Take(name string) error {
	return l.of.take(caller{name: name}, pealv1.ControlService_Stats_FullMethodName)
}

// Names is how many names are remembered.
func (l Limits) Names() int { return l.of.byName.Len() }
