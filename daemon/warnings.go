package daemon

import (
	"slices"
	"strings"
)

// warn logs settings that are valid but may be unintended. It considers only settings
// for which isNew returns true.
func (p *parts) warn(isNew func(key string) bool) {
	if isNew("control.tokens") {
		p.warnOfShortTokens()
	}
	if isNew("history.max_events") && p.cfg.History.MaxEvents == 0 {
		p.log.Warn("history disabled", "setting", "history.max_events")
	}
	if isNew("topics") {
		for _, pair := range p.cfg.shadowed() {
			p.log.Warn("policy applies to no topic", "setting", "topics", "pattern", pair[0], "earlier", pair[1])
		}
	}

	if isNew("hooks") {
		for _, h := range p.cfg.Hooks {
			if h.isExposed() {
				p.log.Warn("webhooks sent without TLS", "hook", h.Name())
			}
		}
	}

	keys := []string{"auth.jwt.hmac_secret", "auth.jwt.public_key_file", "auth.jwt.jwks_url"}
	if slices.ContainsFunc(append(keys, "auth.callback_url"), isNew) && !p.cfg.Auth.JWT.hasKey() && p.cfg.Auth.CallbackURL == "" {
		p.log.Info("all streams are anonymous: no key to verify tokens, and no auth.callback_url", "keys", strings.Join(keys, ", "))
	}
}

// warnOfShortTokens logs the names of control tokens that are short enough to
// guess.
func (p *parts) warnOfShortTokens() {
	const enough = 16
	for _, token := range p.cfg.Control.Tokens {
		if len(token.Token) < enough {
			p.log.Warn("control token is short enough to guess; generate one with openssl rand -hex 32", "name", token.Name, "length", len(token.Token))
		}
	}
}

// warnOfTrimmedSecrets logs those keys for which isNew returns true. Their settings are
// secrets that had a line break at the end.
func (p *parts) warnOfTrimmedSecrets(keys []string, isNew func(key string) bool) {
	for _, key := range keys {
		if isNew(key) {
			p.log.Warn("ignored line break at the end of a secret", "setting", key)
		}
	}
}
