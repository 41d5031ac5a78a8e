package broker

import "time"

// Ban records that a user must not open streams for a while.
type Ban struct {
	User string
	// Set and Until are the times at which the ban starts and ends.
	Set, Until time.Time

	closed int // streams that AdoptBan closed and that no call to Disconnect has counted yet
}

// callTime is the maximum delay between a ban's arrival and that of the Disconnect call
// that set it on another daemon.
const callTime = 10 * time.Second

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
		b.bans.ReplaceOrInsert(Ban{User: user, Set: now, Until: now.Add(ban)})
		if b.changes != nil {
			b.changes.bans = append(b.changes.bans, user)
		}
	}
	return closed, nil
}

// Banned reports whether a user is banned.
func (b *Broker) Banned(user string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ban, ok := b.bans.Get(Ban{User: user})
	return ok && time.Now().Before(ban.Until)
}

// Bans returns up to limit bans whose user ids are greater than after, in
// ascending order of id (by byte).
func (b *Broker) Bans(after string, limit int) []Ban {
	b.mu.Lock()
	defer b.mu.Unlock()
	return page(b.bans, Ban{User: after}, "", after, limit, func(ban Ban) (string, Ban) { return ban.User, ban })
}

// AdoptBan applies a ban that another daemon has set, and closes the user's
// streams here. It does nothing if the user already has a ban that was set at
// the same time or later.
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
		return nil
	}
	ban.closed = b.disconnect(ban.User)
	if ok && ban.Set.Sub(old.Set) < callTime {
		ban.closed += old.closed
	}
	b.bans.ReplaceOrInsert(ban)
	return nil
}

// removeExpiredBans removes expired bans. The caller holds b.mu.
func (b *Broker) removeExpiredBans(now time.Time) {
	var expired []Ban
	b.bans.Ascend(func(ban Ban) bool {
		if !now.Before(ban.Until) {
			expired = append(expired, ban)
		}
		return true
	})
	for _, ban := range expired {
		b.bans.Delete(ban)
	}
}
