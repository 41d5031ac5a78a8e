package cluster

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"
)

// resolveEvery is how often names of peers are resolved anew.
const resolveEvery = 5 * time.Second

// resolve returns the addresses that peers stand for, in order. A name that
// can't be resolved stands for itself, so that it is tried later.
func resolve(ctx context.Context, by *net.Resolver, peers []string, log *slog.Logger) []string {
	var addrs []string
	for _, peer := range peers {
		host, port, err := net.SplitHostPort(peer)
		if err != nil {
			continue // it was checked
		}
		if _, err := netip.ParseAddr(host); err == nil {
			addrs = append(addrs, peer)
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, resolveEvery)
		found, err := by.LookupHost(ctx, host)
		cancel()
		if err != nil {
			log.Debug("a peer's name can't be resolved", "peer", peer, "error", err)
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

// followPeers has the server connect to what the names of peers come to stand
// for, until ctx ends.
func (s *embeddedServer) followPeers(ctx context.Context) {
	if s.alone || !slices.ContainsFunc(s.cfg.Peers, isName) {
		return
	}
	tick := time.NewTicker(resolveEvery)
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
			s.log.Warn("other nodes' new addresses can't be used", "addresses", found, "error", err)
			continue
		}
		s.log.Info("other nodes have other addresses", "addresses", found)
		s.routes = found
	}
}

// isName says whether the host of a peer is to be resolved.
func isName(peer string) bool {
	host, _, err := net.SplitHostPort(peer)
	if err != nil {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err != nil
}
