package bench

import "net/netip"

const (
	// perSource is the number of connections per source address. The usual range has
	// 28,000 ports, and connect prefers every second one. Beyond that, or after a
	// run that has just released ports, the search for a free port dominates the
	// connect time.
	perSource  = 10_000
	maxSources = 250
)

// sources returns the source addresses that the streams use in rotation, or nil
// if the system should choose.
func (r *run) sources(to netip.Addr) []netip.Addr {
	if !to.Is4() || !to.IsLoopback() {
		return nil
	}

	n := r.cfg.Sources
	if n == 0 {
		n = (r.cfg.connections() + perSource - 1) / perSource
	}
	if n == 1 {
		return nil
	}

	addrs := make([]netip.Addr, n)
	for i := range addrs {
		addrs[i] = netip.AddrFrom4([4]byte{127, 0, 0, byte(i + 1)})
	}

	return addrs
}
