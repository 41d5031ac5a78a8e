package cluster

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"
)

// resolveInterval is the time between resolutions of the names of peers.
const resolveInterval = 5 * time.Second

// resolve returns the sorted addresses of peers. A name that can't be resolved is
// returned as it is, so that it is resolved later.
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

// followPeers resolves the names of peers regularly, and has the server connect to
// their new addresses, until ctx is done.
func (s *embeddedServer) followPeers(ctx context.Context) {
	if s.standalone || !slices.ContainsFunc(s.cfg.Peers, isName) {
		return
	}
	tick := time.NewTicker(resolveInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		found := resolve(ctx, s.cfg.Resolver, s.cfg.Peers, s.log)
		if slices.Equal(found, s.routes) || ctx.Err() != nil {
			continue
		}
		options := s.options.Clone()
		options.Routes = s.routeURLs(found)
		if err := s.ReloadOptions(options); err != nil {
			s.log.Warn("cannot use new peer addresses", "addresses", found, "error", err)
			continue
		}
		s.log.Info("peer addresses changed", "addresses", found)
		s.routes = found
	}
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
