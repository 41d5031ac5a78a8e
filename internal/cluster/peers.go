package cluster

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"
)

// resolveInterval is how often the names of peers are resolved.
const resolveInterval = 5 * time.Second

// resolve returns the sorted addresses of peers. A name that can't be resolved is
// returned as is, so that it can be resolved later.
func resolve(ctx context.Context, resolver *net.Resolver, peers []string, log *slog.Logger) []string {
	var addrs []string
	for _, peer := range peers {
		host, port, err := net.SplitHostPort(peer)
		if err != nil {
			continue // the configuration was validated
		}
		if _, err := netip.ParseAddr(host); err == nil {
			addrs = append(addrs, peer)
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, resolveInterval)
		found, err := resolver.LookupHost(ctx, host)
		cancel()
		if err != nil {
			log.Debug("cannot resolve a peer", "peer", peer, "error", err)
			addrs = append(addrs, peer)
			continue
		}
		for _, addr := range found {
			addrs = append(addrs, net.JoinHostPort(addr, port))
		}
	}
	slices.Sort(addrs)
	return slices.Compact(addrs)
}

// isName reports whether the host of a peer is a name.
func isName(peer string) bool {
	host, _, err := net.SplitHostPort(peer)
	if err != nil {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err != nil
}
