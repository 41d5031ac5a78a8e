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

// resolve returns the sorted addresses of peers. If a name can't be resolved, resolve
// returns the name itself, which may become resolvable later.
func resolve(ctx context.Context, resolver *net.Resolver, peers []string, log *slog.Logger) []string {
	var addrs []string
	for _, peer := range peers {
		host, port, err := net.SplitHostPort(peer)
		if err != nil {
			continue // can't happen: the configuration has been validated
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
