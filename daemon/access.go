package daemon

import (
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/ssehttp"
)

// access is who tells who browsers are: tokens, or the application.
type access struct {
	tokens   *auth.Tokens   // nil where no key is set
	callback *auth.Callback // nil where no URL is set
	mints    bool           // tokens has a secret
}

func newAccess(cfg Auth, log *slog.Logger) (access, error) {
	var a access
	var err error
	if cfg.JWT.hasKey() {
		a.mints = cfg.JWT.HMACSecret != ""
		if a.tokens, err = auth.New(auth.Config{
			HMACSecret:    cfg.JWT.HMACSecret,
			PublicKeyFile: cfg.JWT.PublicKeyFile,
			JWKSURL:       cfg.JWT.JWKSURL,
			Issuer:        cfg.JWT.Issuer,
			Audience:      cfg.JWT.Audience,
			Logger:        log,
		}); err != nil {
			return a, fmt.Errorf("subscriber tokens: %w", err)
		}
	}
	if cfg.CallbackURL != "" {
		a.callback, err = auth.NewCallback(auth.CallbackConfig{
			URL:         cfg.CallbackURL,
			Headers:     cfg.CallbackHeaders,
			Timeout:     cfg.CallbackTimeout,
			CacheFor:    cfg.CallbackCache,
			Concurrency: cfg.CallbackConcurrency,
			Logger:      log,
		})
	}
	return a, err
}

// The three below keep nil pointers from becoming interfaces that are not nil.

func (a access) verifier() ssehttp.Verifier {
	if a.tokens == nil {
		return nil
	}
	return a.tokens
}

func (a access) application() ssehttp.Application {
	if a.callback == nil {
		return nil
	}
	return a.callback
}

func (a access) minter() control.Minter {
	if !a.mints {
		return nil
	}
	return a.tokens
}

// keyReads is how often public keys were read, and how often they could not be.
func (a access) keyReads() (good, failed int64) {
	if a.tokens == nil {
		return 0, 0
	}
	return a.tokens.Reads()
}

func (a access) close() {
	if a.tokens != nil {
		a.tokens.Close()
	}
	if a.callback != nil {
		a.callback.Close()
	}
}

// prefixes are the networks that CIDRs and single addresses name.
func prefixes(list []string) ([]netip.Prefix, *SettingError) {
	found := make([]netip.Prefix, 0, len(list))
	for _, text := range list {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, addrErr := netip.ParseAddr(text)
			if addrErr != nil || addr.Zone() != "" {
				return nil, &SettingError{"sse.trusted_proxies", fmt.Sprintf("%q", text), `networks such as "10.0.0.0/8" or "2001:db8::/32", and addresses`}
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		if prefix.Addr().Is4In6() {
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), max(prefix.Bits()-96, 0))
		}
		found = append(found, prefix.Masked())
	}
	return found, nil
}
