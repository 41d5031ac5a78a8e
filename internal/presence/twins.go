package presence

import "time"

const (
	// twinTurns is how often two daemons of one name must have taken each
	// other's place: a restart takes it once, and what the daemon of before had
	// on its way may come late.
	twinTurns = 3
	// twinsFor is for how long a name counts as one that two daemons have, from
	// the last turn on. Each announces itself every second.
	twinsFor = 10 * time.Second
)

// twins describes daemons that announce themselves under one name in turn, such
// as those that run on two copies of one directory.
type twins struct {
	turns    int
	last     time.Time
	reported bool
}

// are reports whether two daemons have had the name lately.
func (t *twins) are(now time.Time) bool {
	return t != nil && t.reported && now.Sub(t.last) <= twinsFor
}

// cameBack notes that a daemon announces itself whose place another one of its
// name had taken.
func (d *Directory) cameBack(name string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.twins[name]
	if t == nil || now.Sub(t.last) > twinsFor {
		t = new(twins)
		d.twins[name] = t
	}
	t.turns++
	t.last = now
	if t.turns >= twinTurns && !t.reported {
		t.reported = true
		d.log.Error("two nodes have one name", "node", name)
	}
}

// forgetReplaced forgets daemons whose place was taken long ago.
func (d *Directory) forgetReplaced(now time.Time) {
	for incarnation, at := range d.replaced {
		if now.Sub(at) > twinsFor {
			delete(d.replaced, incarnation)
		}
	}
}
