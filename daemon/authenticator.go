package daemon

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/ssehttp"
)

// authenticator authenticates browsers, either with tokens or by asking the
// application.
type authenticator struct { //nolint:recvcheck // The setters build a value step by step.
	tokens   *auth.Tokens   // nil if no key is set
	callback *auth.Callback // nil if no URL is set
	signs    bool           // tokens has a secret
}

func newAuthenticator(cfg Auth, log *slog.Logger) (a authenticator, err error) {
	if err := a.setTokens(cfg, auth.Config{Logger: log}); err != nil {
		return a, err
	}
	return a, a.setCallback(cfg, log)
}

// reconfigure returns an authenticator for new settings. Next reuses the parts of a
// whose settings haven't changed, and old holds the parts that it replaces. The caller
// must close old once nothing uses it anymore.
func (a authenticator) reconfigure(before, now Auth, log *slog.Logger) (next, old authenticator, err error) {
	next = a

	if now.JWT != before.JWT || now.HTTPProxy != before.HTTPProxy {
		old.tokens = a.tokens
		if err := next.setTokens(now, auth.Config{Logger: log, Replacing: true, Before: a.tokens}); err != nil {
			return a, authenticator{}, err
		}
	}

	if sameCallback(before, now) {
		return next, old, nil
	}
	old.callback = a.callback
	if err := next.setCallback(now, log); err != nil {
		if next.tokens != a.tokens {
			authenticator{tokens: next.tokens}.close()
		}
		return a, authenticator{}, err
	}

	return next, old, nil
}

func sameCallback(a, b Auth) bool {
	return a.CallbackURL == b.CallbackURL && a.HTTPProxy == b.HTTPProxy && slices.Equal(a.CallbackHeaders, b.CallbackHeaders) &&
		a.CallbackTimeout == b.CallbackTimeout && a.CallbackCache == b.CallbackCache && a.CallbackConcurrency == b.CallbackConcurrency
}

// setTokens creates a.tokens from the settings. Cfg provides the fields that aren't
// settings.
func (a *authenticator) setTokens(settings Auth, cfg auth.Config) (err error) {
	jwt := settings.JWT
	a.tokens, a.signs = nil, jwt.HMACSecret != ""
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

func (a *authenticator) setCallback(cfg Auth, log *slog.Logger) (err error) {
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
	return err //nolint:wrapcheck // It names the setting.
}

// proxy returns the proxy for requests to the application and the key servers.
func (cfg Auth) proxy() (auth.Proxy, error) {
	proxy, err := auth.ParseProxy(cfg.HTTPProxy)
	if err != nil {
		return nil, fmt.Errorf("auth.http_proxy: %w", err)
	}
	return proxy, nil
}

// The next three methods return nil interfaces for nil pointers.

func (a authenticator) verifier() ssehttp.Verifier {
	if a.tokens == nil {
		return nil
	}
	return a.tokens
}

func (a authenticator) application() ssehttp.Application {
	if a.callback == nil {
		return nil
	}
	return a.callback
}

func (a authenticator) minter() control.Minter {
	if !a.signs {
		return nil
	}
	return a.tokens
}

// keyReads returns how many attempts to read public keys have succeeded and how many
// have failed.
func (a authenticator) keyReads() (good, failed int64) {
	if a.tokens == nil {
		return 0, 0
	}
	return a.tokens.Reads()
}

func (a authenticator) close() {
	if a.tokens != nil {
		a.tokens.Close()
	}
	if a.callback != nil {
		a.callback.Close()
	}
}
