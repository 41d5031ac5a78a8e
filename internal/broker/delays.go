package broker

// delays measures the time from the publication of an event until a sink
// accepts it. Reading the clock for each event would be too slow: a shard
// records what it writes during a turn, and measures all of it at the end.
type delays struct {
	written []written
	next    int // index in written of the entry that the next event probably belongs to
	latency histogram
}

// written is the number of streams that were sent an event published at a
// given time, in Unix nanoseconds.
type written struct{ at, streams int64 }

// maxWritten limits the number of entries in one turn. If there are more, the shard
// measures them in the middle of the turn.
const maxWritten = 1024

// begin must be called before events from another stream are added.
func (d *delays) begin() { d.next = 0 }

// add records that an event was sent to the current stream. Most streams get the
// same events in the same order, so the next entry is usually the right one.
func (d *delays) add(at int64) {
	if d.next < len(d.written) && d.written[d.next].at == at {
		d.written[d.next].streams++
		d.next++
	} else {
		d.addEntry(at)
	}
}

// addEntry adds an entry for an event. It is separate so that add can be
// inlined.
func (d *delays) addEntry(at int64) {
	d.written = append(d.written, written{at, 1})
	d.next = len(d.written)
}

// full reports whether the entries should be measured soon.
func (d *delays) full() bool { return len(d.written) >= maxWritten }

// measure observes all entries as sent at now, in Unix nanoseconds. Events that
// were published at about the same time fall into the same bucket, which is then
// looked up only once.
func (d *delays) measure(now int64) {
	var current bucket
	for _, w := range d.written {
		took := max(now-w.at, 0) // the clock may have been set back
		if !current.holds(took) {
			d.latency.add(current)
			current = d.latency.bucketOf(took)
		}
		current.observe(took, w.streams)
	}
	d.latency.add(current)
	d.written = d.written[:0]
}
