package presence

import "time"

const (
	// duplicateAfter is the number of times that two nodes with the same name must
	// replace each other to count as duplicates. A restart replaces a node once,
	// and a late message from the old process looks like a second replacement.
	duplicateAfter = 3
	// duplicateFor is how long a name counts as duplicated after the last replacement.
	// Each node announces itself once a second.
	duplicateFor = 10 * time.Second
)

// duplicates counts how often nodes with the same name have replaced each other. Two
// nodes have the same name if, for example, they run on two copies of a directory.
type duplicates struct {
	replacements int
	last         time.Time
	reported     bool
}

// active reports whether two nodes currently have the name.
func (t *duplicates) active(now time.Time) bool {
	return t != nil && t.reported && now.Sub(t.last) <= duplicateFor
}

// noteDuplicate counts an announcement from a node that another node with the same name
// had already replaced.
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
