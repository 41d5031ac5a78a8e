package daemon

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/internal/broker"
)

// minSecret is the minimum length of a secret in bytes. RFC 7518 §3.2 requires a key
// that is at least as long as the hash, which has 32 bytes for HS256.
const minSecret = 32

func (c Config) checkAuth() *SettingError {
	if c.Auth.Cookie != "" && !isCookieName(c.Auth.Cookie) {
		return &SettingError{"auth.cookie", strconv.Quote(c.Auth.Cookie), "the name of a cookie, or an empty string"}
	}

	for _, pattern := range c.Auth.AnonymousTopics {
		if err := broker.ValidPattern(pattern); err != nil {
			return &SettingError{"auth.anonymous_topics", strconv.Quote(pattern), `topics such as "orders", and patterns such as "orders.*" and "orders.>"`}
		}
	}

	if len(c.Auth.AnonymousTopics) > 0 && !c.Auth.Anonymous {
		return &SettingError{"auth.anonymous_topics", strconv.Quote(strings.Join(c.Auth.AnonymousTopics, ",")) + " without auth.anonymous", "auth.anonymous too: otherwise every stream needs a token"}
	}

	secret := c.Auth.JWT.HMACSecret
	if secret != "" && len(secret) < minSecret {
		return &SettingError{"auth.jwt.hmac_secret", fmt.Sprintf("a secret of %d bytes", len(secret)), fmt.Sprintf("at least %d bytes", minSecret)}
	}

	if location := c.Auth.JWT.JWKSURL; location != "" && !isHTTP(location) {
		if scheme, _, ok := strings.Cut(location, "://"); ok && scheme != "file" {
			return &SettingError{"auth.jwt.jwks_url", "a URL with the scheme " + strconv.Quote(scheme), "a URL that begins with https:// or http://, or a file"}
		}
	}

	if err := c.checkProxy(); err != nil {
		return err
	}

	if c.Auth.CallbackURL != "" {
		return c.checkCallback()
	}

	if c.Auth.JWT.hasKey() {
		return nil
	}

	const keys = "auth.jwt.hmac_secret, auth.jwt.public_key_file or auth.jwt.jwks_url too, to verify tokens"
	if c.Auth.JWT.Issuer != "" {
		return &SettingError{"auth.jwt.issuer", strconv.Quote(c.Auth.JWT.Issuer) + " without a key", keys}
	}

	if c.Auth.JWT.Audience != "" {
		return &SettingError{"auth.jwt.audience", strconv.Quote(c.Auth.JWT.Audience) + " without a key", keys}
	}

	if !c.Auth.Anonymous {
		return &SettingError{"auth.anonymous", "false", "auth.callback_url, auth.jwt.hmac_secret, auth.jwt.public_key_file or auth.jwt.jwks_url too: otherwise nobody could open a stream"}
	}

	return nil
}

// checkProxy checks auth.http_proxy. Errors don't include its URL, because it may
// contain a password.
func (c Config) checkProxy() *SettingError {
	const key = "auth.http_proxy"
	if _, err := auth.ParseProxy(c.Auth.HTTPProxy); err != nil {
		return &SettingError{key, "an invalid URL", `a URL with a host that begins with http://, https://, socks5:// or socks5h://, or "environment"`}
	}
	if c.Auth.HTTPProxy != "" && c.Auth.CallbackURL == "" && !isHTTP(c.Auth.JWT.JWKSURL) {
		return &SettingError{key, "a proxy that no request would use", "auth.callback_url or a URL in auth.jwt.jwks_url too"}
	}
	return nil
}

func (c Config) checkCallback() *SettingError {
	a := c.Auth
	switch {
	case !isHTTP(a.CallbackURL):
		return &SettingError{"auth.callback_url", "an invalid URL", "a URL that begins with https:// or http://"}
	case len(a.AnonymousTopics) > 0:
		return &SettingError{"auth.anonymous_topics", strconv.Quote(strings.Join(a.AnonymousTopics, ",")) + " with auth.callback_url", "no topics: the application decides who may subscribe to which"}
	case a.JWT.hasKey():
		return &SettingError{"auth.callback_url", "a URL, although a key for tokens is set", "either auth.callback_url or auth.jwt.*, because only one can decide"}
	case a.CallbackTimeout <= 0:
		return moreThanZero("auth.callback_timeout", a.CallbackTimeout)
	case a.CallbackCache < 0:
		return &SettingError{"auth.callback_cache", a.CallbackCache.String(), "a duration, or 0s to ask every time"}
	case a.CallbackConcurrency < 1:
		return &SettingError{"auth.callback_concurrency", strconv.Itoa(a.CallbackConcurrency), "at least 1"}
	}
	for _, name := range a.CallbackHeaders {
		if !httpguts.ValidHeaderFieldName(name) || http.CanonicalHeaderKey(name) == "Cookie" {
			return &SettingError{"auth.callback_headers", strconv.Quote(name), "names of headers other than Cookie, which is always passed"}
		}
	}
	return nil
}

// checkLimits checks the limits on connections and calls, and the trusted
// proxies.
func (c Config) checkLimits() *SettingError {
	for _, limit := range []struct {
		key   string
		given int
	}{
		{"sse.max_connections_per_user", c.SSE.MaxConnectionsPerUser},
		{"sse.max_connections_per_ip", c.SSE.MaxConnectionsPerIP},
		{"sse.max_connects_per_second", c.SSE.MaxConnectsPerSecond},
		{"control.rate_limit", c.Control.RateLimit},
	} {
		if limit.given < 0 {
			return &SettingError{limit.key, strconv.Itoa(limit.given), "a number, or 0 for no limit"}
		}
	}
	if _, err := prefixes(c.SSE.TrustedProxies); err != nil {
		return err
	}
	if c.SSE.ProxyProtocol && len(c.SSE.TrustedProxies) == 0 {
		return &SettingError{"sse.proxy_protocol", "true with no sse.trusted_proxies", "sse.trusted_proxies too: other peers aren't trusted"}
	}
	return nil
}
