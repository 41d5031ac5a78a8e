package daemon

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/ssehttp"
)

// access is who tells who browsers are: tokens, or the application.
type access struct { //nolint:recvcheck // a value, which its setters make in steps
	tokens   *auth.Tokens   // nil where no key is set
	callback *auth.Callback // nil where no URL is set
	mints    bool           // tokens has a secret
}

func newAccess(cfg Auth, log *slog.Logger) (a access, err error) {
	if err := a.setTokens(cfg, auth.Config{Logger: log}); err != nil {
		return a, err
	}
	return a, a.setCallback(cfg, log)
}

// change returns the access of now, of what is running that of before where its
// settings are the same. What isn't is in old, to be closed by the caller when
// nobody is sent there any more.
func (a access) change(before, now Auth, log *slog.Logger) (next, old access, err error) {
	next = a
	if now.JWT != before.JWT || now.HTTPProxy != before.HTTPProxy {
		old.tokens = a.tokens
		if err := next.setTokens(now, auth.Config{Logger: log, Replacing: true, Before: a.tokens}); err != nil {
			return a, access{}, err
		}
	}
	if sameCallback(before, now) {
		return next, old, nil
	}
	old.callback = a.callback
	if err := next.setCallback(now, log); err != nil {
		if next.tokens != a.tokens {
			access{tokens: next.tokens}.close()
		}
		return a, access{}, err
	}
	return next, old, nil
}

func sameCallback(a, b Auth) bool {
	return a.CallbackURL == b.CallbackURL && a.HTTPProxy == b.HTTPProxy && slices.Equal(a.CallbackHeaders, b.CallbackHeaders) &&
		a.CallbackTimeout == b.CallbackTimeout && a.CallbackCache == b.CallbackCache && a.CallbackConcurrency == b.CallbackConcurrency
}

// setTokens fills in what cfg is to be besides.
func (a *access) setTokens(settings Auth, cfg auth.Config) (err error) {
	jwt := settings.JWT
	a.tokens, a.mints = nil, jwt.HMACSecret != ""
	if !jwt.hasKey() {
		return nil
	}
	cfg.HMACSecret, cfg.PublicKeyFile, cfg.JWKSURL = jwt.HMACSecret, jwt.PublicKeyFile, jwt.JWKSURL
	cfg.Issuer, cfg.Audience = jwt.Issuer, jwt.Audience
	if cfg.Proxy, err = settings.proxy(); err != nil {
		return err
	}
	if a.tokens, err = auth.New(cfg); err != nil {
		return fmt.Errorf("subscriber tokens: %w", err)
	}
	return nil
}

func (a *access) setCallback(cfg Auth, log *slog.Logger) (err error) {
	a.callback = nil
	if cfg.CallbackURL == "" {
		return nil
	}
	proxy, err := cfg.proxy()
	if err != nil {
		return err
	}
	a.callback, err = auth.NewCallback(auth.CallbackConfig{
		URL:         cfg.CallbackURL,
		Headers:     cfg.CallbackHeaders,
		Timeout:     cfg.CallbackTimeout,
		CacheFor:    cfg.CallbackCache,
		Concurrency: cfg.CallbackConcurrency,
		Proxy:       proxy,
		Logger:      log,
	})
	return err //nolint:wrapcheck // it names the setting
}

// proxy returns the proxy for requests to the application and to key servers.
func (cfg Auth) proxy() (auth.Proxy, error) {
	proxy, err := auth.ParseProxy(cfg.HTTPProxy)
	if err != nil {
		return nil, fmt.Errorf("auth.http_proxy: %w", err)
	}
	return proxy, nil
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
