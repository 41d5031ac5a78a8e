package daemon

import (
	"slices"
	"strings"
)

// warn tells of what is accepted and may not be meant, of the keys that are new.
func (p *parts) warn(isNew func(key string) bool) {
	if isNew("control.tokens") {
		p.warnOfShortTokens()
	}
	if isNew("history.max_events") && p.cfg.History.MaxEvents == 0 {
		p.log.Warn("history disabled", "setting", "history.max_events")
	}
	known := []string{"auth.jwt.hmac_secret", "auth.jwt.public_key_file", "auth.jwt.jwks_url", "auth.callback_url"}
	if slices.ContainsFunc(known, isNew) && !p.cfg.Auth.JWT.hasKey() && p.cfg.Auth.CallbackURL == "" {
		p.log.Info("all streams are anonymous: there is no key to check tokens with, and no auth.callback_url", "keys", strings.Join(known[:3], ", "))
	}
}

// warnOfShortTokens names the control tokens that could be guessed.
func (p *parts) warnOfShortTokens() {
	const enough = 16
	for _, token := range p.cfg.Control.Tokens {
		if len(token.Token) < enough {
			p.log.Warn("a control token is short enough to be guessed: openssl rand -hex 32 makes a good one", "name", token.Name, "length", len(token.Token))
		}
	}
}
