package bench

import "net/netip"

const (
	// perSource is how many streams one address opens by itself. The usual
	// range has 28,000 ports, connect takes every second one as long as it can,
	// and past that, or with ports that a run before has just left, looking for
	// a free one takes longer than all the rest.
	perSource  = 10_000
	maxSources = 250
)

// sources returns the addresses that the streams come from by turns, or nil
// where the system shall choose.
func (r *run) sources(to netip.Addr) []netip.Addr {
	if !to.Is4() || !to.IsLoopback() {
		return nil
	}

	n := r.cfg.Sources
	if n == 0 {
		n = (r.cfg.streams() + perSource - 1) / perSource
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
