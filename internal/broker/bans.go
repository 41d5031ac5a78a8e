package broker

import "time"

// Ban records that a user must not open streams for a while. In a cluster, the
// daemons exchange bans, and of two bans of a user, the one that was set last applies.
type Ban struct {
	User string
	// Set and Until are the times at which the ban starts and ends.
	Set, Until time.Time
	// KeepUntil is the time until which another daemon may have an earlier ban that
	// this one replaces. A ban is kept that long even after it has ended. Otherwise,
	// the earlier ban would apply again.
	KeepUntil time.Time

	closed int // streams that AdoptBan closed and that no call to Disconnect has counted yet
}

const (
	// callTime is the maximum delay between a ban's arrival and that of the Disconnect
	// call that set it on another daemon.
	callTime = 10 * time.Second
	// keepBan is the minimum time for which a ban is kept. It gives this daemon the
	// time to announce it, and to learn of an earlier ban that only other daemons have.
	keepBan = time.Minute
)

// Disconnect closes all of a user's streams and returns how many there were. If ban
// is positive, it also bans the user for that time. In a cluster, a ban may arrive
// before the Disconnect call that set it. The streams that AdoptBan closed for that
// ban are counted too.
func (b *Broker) Disconnect(user string, ban time.Duration) (int, error) {
	if err := ValidUserID(user); err != nil {
		return 0, err
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, ErrClosed
	}

	closed := b.disconnect(user)
	if ban > 0 {
		now := time.Now()
		if old, ok := b.bans.Get(Ban{User: user}); ok && now.Sub(old.Set) < callTime {
			closed += old.closed
		}
		b.setBan(Ban{User: user, Set: now, Until: now.Add(ban), KeepUntil: now.Add(keepBan)})
		if b.changes != nil {
			b.changes.bans = append(b.changes.bans, user)
		}
	}
	return closed, nil
}

// setBan stores a ban in place of the user's previous one. The caller holds b.mu.
func (b *Broker) setBan(ban Ban) {
	if old, ok := b.bans.Get(ban); ok {
		ban.KeepUntil = latest(ban.KeepUntil, old.KeepUntil, old.Until)
	}
	ban.KeepUntil = latest(ban.KeepUntil, ban.Until)
	b.bans.ReplaceOrInsert(ban)
}

// latest returns the last of several times.
func latest(first time.Time, others ...time.Time) time.Time {
	for _, t := range others {
		if t.After(first) {
			first = t
		}
	}
	return first
}

// Banned reports whether a user is banned.
func (b *Broker) Banned(user string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ban, ok := b.bans.Get(Ban{User: user})
	return ok && time.Now().Before(ban.Until)
}

// Bans returns up to limit bans whose user ids are greater than after, in
// ascending order of id (by byte). They include bans that have ended, until
// [Ban.KeepUntil].
func (b *Broker) Bans(after string, limit int) []Ban {
	b.mu.Lock()
	defer b.mu.Unlock()
	return page(b.bans, Ban{User: after}, "", after, limit, func(ban Ban) (string, Ban) { return ban.User, ban })
}

// AdoptBan applies a ban that another daemon has set, and closes the user's
// streams here, unless the ban has ended. It changes nothing if the user already has
// a ban that was set at the same time or later.
func (b *Broker) AdoptBan(ban Ban) error {
	if err := ValidUserID(ban.User); err != nil {
		return err
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	old, ok := b.bans.Get(Ban{User: ban.User})
	if ok && !ban.Set.After(old.Set) {
		old.KeepUntil = latest(old.KeepUntil, ban.KeepUntil, ban.Until)
		b.bans.ReplaceOrInsert(old)
		return nil
	}
	if time.Now().Before(ban.Until) {
		ban.closed = b.disconnect(ban.User)
	}
	if ok && ban.Set.Sub(old.Set) < callTime {
		ban.closed += old.closed
	}
	b.setBan(ban)
	return nil
}

// removeEndedBans removes the bans that have ended and needn't be kept any longer. The caller
// holds b.mu.
func (b *Broker) removeEndedBans(now time.Time) {
	var ended []Ban
	b.bans.Ascend(func(ban Ban) bool {
		if !now.Before(ban.KeepUntil) {
			ended = append(ended, ban)
		}
		return true
	})
	for _, ban := range ended {
		b.bans.Delete(ban)
	}
}
