package ssehttp

import (
	"net/http"
	"net/netip"
	"sync"
)

// limits count what users and addresses hold, of the streams that were opened
// while there was a bound to it. They outlast the rules, as streams do.
type limits struct {
	users     *tally[string]
	addresses *tally[netip.Addr]
	elsewhere func(user string) int // nil where there is nowhere else
}

func newLimits(elsewhere func(user string) int) limits {
	return limits{newTally[string](), newTally[netip.Addr](), elsewhere}
}

// place is what a stream has of the limits. It is nil where the rules have
// none, so that streams don't pay for what is not used.
type place struct {
	limits *limits
	user   string
	addr   netip.Addr
}

// enter takes a place for a request of an address. The caller has to leave it.
func (l *limits) enter(client netip.Addr, rules *rules) (*place, *refusal) {
	if rules.rate != nil && !rules.rate.Allow() {
		return nil, later(Rate)
	}
	most := rules.cfg.MaxConnectionsPerAddress
	if most == 0 && rules.cfg.MaxConnectionsPerUser == 0 {
		return nil, nil
	}
	p := &place{limits: l}
	if most > 0 && client.IsValid() {
		addr := network(client)
		if !l.addresses.take(addr, most) {
			return nil, refuse(AddressLimit, http.StatusTooManyRequests, "your address has as many streams open as one may have, which is %d", most)
		}
		p.addr = addr
	}
	return p, nil
}

// seat counts the place for its user too.
func (p *place) seat(user string, rules *rules) *refusal {
	most := rules.cfg.MaxConnectionsPerUser
	if p == nil || most == 0 || user == "" {
		return nil
	}
	here := most
	if p.limits.elsewhere != nil {
		here -= p.limits.elsewhere(user)
	}
	if !p.limits.users.take(user, here) {
		return refuse(UserLimit, http.StatusTooManyRequests, "this user has as many streams open as one may have, which is %d", most)
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
	mu   sync.Mutex
	held map[K]int
}

func newTally[K comparable]() *tally[K] {
	return &tally[K]{held: make(map[K]int)}
}

// take counts one more, unless there are as many as there may be.
func (t *tally[K]) take(key K, most int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held[key] >= most {
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
