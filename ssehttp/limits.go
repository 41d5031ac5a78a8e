package ssehttp

import (
	"net/http"
	"net/netip"
	"sync"
)

// limits counts the streams of each user and address that were opened while a limit was
// configured. Like streams, it outlives the rules.
type limits struct {
	users     *usage[string]
	addresses *usage[netip.Addr]
	elsewhere func(user string) int // nil if there are no other daemons
}

func newLimits(elsewhere func(user string) int) limits {
	return limits{newUsage[string](), newUsage[netip.Addr](), elsewhere}
}

// reservation holds a stream's share of the connection limits. It is nil if no
// limits are configured, so that streams don't pay for unused features.
type reservation struct {
	limits *limits
	user   string
	addr   netip.Addr
}

// reserve makes a reservation for a request from an address. The caller must
// release it.
func (l *limits) reserve(client netip.Addr, rules *rules) (*reservation, *rejection) {
	if rules.rate != nil && !rules.rate.Allow() {
		return nil, askToRetry(Rate)
	}

	most := rules.cfg.MaxConnectionsPerAddress
	if most == 0 && rules.cfg.MaxConnectionsPerUser == 0 {
		return nil, nil
	}

	res := &reservation{limits: l}
	if most > 0 && client.IsValid() {
		addr := network(client)
		if !l.addresses.acquire(addr, most) {
			return nil, reject(AddressLimit, http.StatusTooManyRequests, "too many streams from your address; the limit is %d", most)
		}
		res.addr = addr
	}
	return res, nil
}

// addUser also counts the stream against the user's limit.
func (res *reservation) addUser(user string, rules *rules) *rejection {
	most := rules.cfg.MaxConnectionsPerUser
	if res == nil || most == 0 || user == "" {
		return nil
	}

	here := most
	if res.limits.elsewhere != nil {
		here -= res.limits.elsewhere(user)
	}
	if !res.limits.users.acquire(user, here) {
		return reject(UserLimit, http.StatusTooManyRequests, "too many streams for this user; the limit is %d", most)
	}
	res.user = user
	return nil
}

// release ends the reservation.
func (res *reservation) release() {
	if res == nil {
		return
	}
	if res.user != "" {
		res.limits.users.release(res.user)
	}
	if res.addr.IsValid() {
		res.limits.addresses.release(res.addr)
	}
}

// network returns the address under which a client is counted. For IPv6, that is the
// first half of the address, since one machine may have a whole /64.
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

// usage counts the streams of each key.
type usage[K comparable] struct {
	mu    sync.Mutex
	count map[K]int
}

func newUsage[K comparable]() *usage[K] {
	return &usage[K]{count: make(map[K]int)}
}

// acquire adds one stream to key, or returns false if key already has the maximum
// number of streams, most.
func (u *usage[K]) acquire(key K, most int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.count[key] >= most {
		return false
	}
	u.count[key]++
	return true
}

func (u *usage[K]) release(key K) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.count[key]--; u.count[key] <= 0 {
		delete(u.count, key)
	}
}
