package presence

import "time"

const (
	// duplicateAfter is the number of times that two nodes with the same name must
	// replace each other to count as duplicates. A restart replaces a node once,
	// and a late message from the old process looks like a second replacement.
	duplicateAfter = 3
	// A name counts as duplicated until duplicateFor after its last replacement.
	// Each node announces itself once a second.
	duplicateFor = 10 * time.Second
)

// duplicates counts how often nodes that announce themselves under the same name, such
// as nodes that run on two copies of a directory, have replaced each other.
type duplicates struct {
	replacements int
	last         time.Time
	reported     bool
}

// active reports whether two nodes have the name.
func (t *duplicates) active(now time.Time) bool {
	return t != nil && t.reported && now.Sub(t.last) <= duplicateFor
}

// noteDuplicate counts an announcement from a node that had already been replaced
// by another node with its name.
func (d *Directory) noteDuplicate(name string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.duplicates[name]
	if t == nil || now.Sub(t.last) > duplicateFor {
		t = new(duplicates)
		d.duplicates[name] = t
	}
	t.replacements++
	t.last = now
	if t.replacements >= duplicateAfter && !t.reported {
		t.reported = true
		d.log.Error("two nodes have the same name", "node", name)
	}
}

// forgetReplaced forgets nodes that were replaced more than duplicateFor ago.
func (d *Directory) forgetReplaced(now time.Time) {
	for incarnation, at := range d.replaced {
		if now.Sub(at) > duplicateFor {
			delete(d.replaced, incarnation)
		}
	}
}
