package broker

import "time"

// join counts st, determines the position that it starts from and posts it to
// its shard, all under one lock, so that the join has a definite position among the
// events.
func (b *Broker) join(st *Stream, preamble *event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	if b.suspended {
		return ErrSuspended
	}

	if st.account == nil {
		b.anonymous++
	} else {
		if a, ok := b.accounts.Get(st.account); ok {
			st.account = a
		} else {
			st.account.since = time.Now().UnixNano()
			b.accounts.ReplaceOrInsert(st.account)
		}
		st.account.connections++
	}
	if st.topics != nil {
		b.topics.join(st, len(b.shards))
		if st.account != nil {
			st.account.list(st)
		}
	}
	b.open[st.shard.number]++
	b.total++

	b.resume(st)
	b.notify(st, true, 0)
	st.shard.post(item{kind: join, stream: st, event: preamble})
	return nil
}

// leave undoes the counting done by join.
func (b *Broker) leave(st *Stream, why Reason) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uncount(st, why)
}

// uncount is leave for a caller that holds b.mu.
func (b *Broker) uncount(st *Stream, why Reason) {
	b.open[st.shard.number]--
	b.total--
	if st.topics != nil {
		b.topics.leave(st)
	}
	if a := st.account; a == nil {
		b.anonymous--
	} else {
		a.closing = max(a.closing-1, 0)
		if a.connections--; a.connections == 0 {
			b.accounts.Delete(a)
		}
		if st.topics != nil {
			a.unlist()
		}
	}

	if st.catchingUp {
		if st.resume.reset == "" {
			b.outcomes(st).Ended++
		}
		b.replays.observe(int64(st.resume.replayed))
	}
	b.notify(st, false, why)
}

// startDraining stops counting the given streams of one shard. It does so under one
// lock, which gives this step a definite position among the events: for each
// stream, the shard gets a drained item after all events published so far, and the
// stream gets every event that it was counted for.
func (b *Broker) startDraining(streams []*Stream, why Reason) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, st := range streams {
		st.enter(phaseDraining)
		st.closeReason = why
		b.uncount(st, why)
		st.shard.post(item{kind: drained, stream: st})
	}
}

// disconnect closes all of a user's streams and returns how many there were, except
// those that an earlier call is still closing. The caller holds b.mu.
func (b *Broker) disconnect(user string) int {
	a, ok := b.accounts.Get(&account{id: user})
	if !ok {
		return 0
	}
	b.shardFor(user).post(item{kind: disconnect, group: &a.group})
	closing := a.connections - a.closing
	a.closing = a.connections
	return int(closing)
}
