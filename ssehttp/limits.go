package ssehttp

import (
	"net/http"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// limits bound what one user and one address may hold, and how fast streams
// are opened.
type limits struct {
	users     *tally[string]     // nil for no bound
	addresses *tally[netip.Addr] // nil for no bound
	rate      *rate.Limiter      // nil for no bound
}

func newLimits(cfg Config) limits {
	var l limits
	if cfg.MaxConnectionsPerUser > 0 {
		l.users = newTally[string](cfg.MaxConnectionsPerUser)
	}
	if cfg.MaxConnectionsPerAddress > 0 {
		l.addresses = newTally[netip.Addr](cfg.MaxConnectionsPerAddress)
	}
	if n := cfg.MaxConnectsPerSecond; n > 0 {
		l.rate = rate.NewLimiter(rate.Limit(n), n)
	}
	return l
}

// place is what a stream has of the limits. It is nil where there are none, so
// that streams don't pay for what is not used.
type place struct {
	limits *limits
	user   string
	addr   netip.Addr
}

// enter takes a place for a request of an address. The caller has to leave it.
func (l *limits) enter(client netip.Addr) (*place, *refusal) {
	if l.rate != nil && !l.rate.Allow() {
		return nil, later(Rate)
	}
	if l.users == nil && l.addresses == nil {
		return nil, nil
	}
	p := &place{limits: l}
	if l.addresses != nil && client.IsValid() {
		addr := network(client)
		if !l.addresses.take(addr) {
			return nil, refuse(AddressLimit, http.StatusTooManyRequests, "your address has %d streams open, as many as one may have", l.addresses.most)
		}
		p.addr = addr
	}
	return p, nil
}

// seat counts the place for its user too.
func (p *place) seat(user string) *refusal {
	if p == nil || p.limits.users == nil || user == "" {
		return nil
	}
	if !p.limits.users.take(user) {
		return refuse(UserLimit, http.StatusTooManyRequests, "this user has %d streams open, as many as one may have", p.limits.users.most)
	}
	p.user = user
	return nil
}

// leave gives the place back.
func (p *place) leave() {
	if p == nil {
		return
	}
	if p.user != "" {
		p.limits.users.give(p.user)
	}
	if p.addr.IsValid() {
		p.limits.addresses.give(p.addr)
	}
}

// network is what counts as one address: of IPv6 the half that a site has as
// its own, all of which may be one machine's.
func network(addr netip.Addr) netip.Addr {
	const site = 64
	if addr.Is4() {
		return addr
	}
	prefix, err := addr.Prefix(site)
	if err != nil {
		return addr
	}
	return prefix.Addr()
}

// tally counts what each key holds.
type tally[K comparable] struct {
	most int

	mu   sync.Mutex
	held map[K]int
}

func newTally[K comparable](most int) *tally[K] {
	return &tally[K]{most: most, held: make(map[K]int)}
}

// take counts one more, unless there are as many as there may be.
func (t *tally[K]) take(key K) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held[key] >= t.most {
		return false
	}
	t.held[key]++
	return true
}

func (t *tally[K]) give(key K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held[key]--; t.held[key] <= 0 {
		delete(t.held, key)
	}
}
