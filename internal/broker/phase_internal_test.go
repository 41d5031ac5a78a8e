package broker

import (
	"slices"
	"testing"
	"unsafe"
)

// TestPhaseTransitions tries every transition, legal or not.
func TestPhaseTransitions(t *testing.T) {
	legal := map[phase][]phase{
		phaseNew:       {phaseOpen, phaseAbandoned},
		phaseAbandoned: {phaseClosed},
		phaseOpen:      {phaseDraining, phaseStopping, phaseClosed},
		phaseDraining:  {phaseDrained, phaseClosed},
		phaseDrained:   {phaseClosed},
		phaseStopping:  {phaseClosed},
		phaseClosed:    nil,
	}
	for from := phaseNew; from <= phaseClosed; from++ {
		for to := phaseNew; to <= phaseClosed; to++ {
			st := &Stream{phase: from}
			panicked := enterPanics(st, to)
			if want := slices.Contains(legal[from], to); panicked == want {
				t.Errorf("%v to %v: panicked %t, want legal %t", from, to, panicked, want)
			}
			if want := map[bool]phase{true: from, false: to}[panicked]; st.phase != want {
				t.Errorf("%v to %v: the phase is %v, want %v", from, to, st.phase, want)
			}
		}
	}
}

func enterPanics(st *Stream, next phase) (panicked bool) {
	defer func() { panicked = recover() != nil }()
	st.enter(next)
	return false
}

// TestStreamSize keeps the size of a stream from growing unnoticed: 160 bytes are
// an allocator size class, and the next one is 176.
func TestStreamSize(t *testing.T) {
	if size := unsafe.Sizeof(Stream{}); size > 160 {
		t.Errorf("a Stream takes %d bytes, want at most 160", size)
	}
}
