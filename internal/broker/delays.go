package broker

// delays measures how long events take from their publication until they are
// handed to sinks. The clock is not looked at for each of them: a shard notes
// what a turn has written, and measures it all by the turn's end.
type delays struct {
	written []written
	next    int // of written: what the stream that is written will have got if it gets what the one before got
	spent   histogram
}

// written is how many streams were written an event that was published at a
// time, in Unix nanoseconds.
type written struct{ at, streams int64 }

// maxWritten bounds what a turn notes: so much is measured in its midst.
const maxWritten = 1024

// begin says that what is added next is another stream's.
func (d *delays) begin() { d.next = 0 }

// add notes that an event was written to the stream. Streams mostly get the
// same events in the same order, so that the place of the next event is known.
func (d *delays) add(at int64) {
	if d.next < len(d.written) && d.written[d.next].at == at {
		d.written[d.next].streams++
		d.next++
	} else {
		d.begun(at)
	}
}

// begun is add for an event that no stream has been written yet. It stands
// apart so that add is inlined.
func (d *delays) begun(at int64) {
	d.written = append(d.written, written{at, 1})
	d.next = len(d.written)
}

// full says that what was noted should be measured soon.
func (d *delays) full() bool { return len(d.written) >= maxWritten }

// measure counts what was noted as written now, in Unix nanoseconds. What was
// published at about the same time comes into the same bucket, which then is
// looked for once.
func (d *delays) measure(now int64) {
	var like bucket
	for _, w := range d.written {
		took := max(now-w.at, 0) // the clock may have been set back
		if !like.holds(took) {
			d.spent.add(like)
			like = d.spent.bucketOf(took)
		}
		like.observe(took, w.streams)
	}
	d.spent.add(like)
	d.written = d.written[:0]
}
