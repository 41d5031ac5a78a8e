package daemon

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"

	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/internal/demo"
)

// checkDemo says whether the demo can be shown on cfg.
func checkDemo(cfg Config) error {
	if demo.Takes(cfg.SSE.Path) {
		return &SettingError{"sse.path", strconv.Quote(cfg.SSE.Path) + " with --demo", "a path that is not the demo page's, which is at / and under /demo/"}
	}
	if cfg.Auth.Cookie == "" {
		return &SettingError{"auth.cookie", `"" with --demo`, "the name of a cookie, which the demo's page needs for its visitors' tokens"}
	}
	if cfg.Auth.JWT.HMACSecret != "" && !isLoopback(cfg.SSE.Addr) {
		return &SettingError{"sse.addr", strconv.Quote(cfg.SSE.Addr) + " with --demo and auth.jwt.hmac_secret", "a loopback address, for the demo signs tokens for whoever reaches it, in any user's name"}
	}
	if cfg.Auth.CallbackURL != "" || cfg.Auth.JWT.hasKey() && cfg.Auth.JWT.HMACSecret == "" {
		return &SettingError{"--demo", "together with auth.callback_url, or with keys that sign nothing", "no keys at all, or auth.jwt.hmac_secret, with which the demo signs its visitors' tokens"}
	}
	return nil
}

// demoSecret is what tokens are signed with where nothing is set: they are
// good for as long as the process runs.
func demoSecret() string { return rand.Text() + rand.Text() }

// publishDemo makes up events until ctx ends or the broker closes.
func (p *parts) publishDemo(ctx context.Context) error {
	p.log.Warn("demo accepts any user name and publishes for anyone")
	random := mathrand.New(mathrand.NewPCG(mathrand.Uint64(), mathrand.Uint64()))
	traffic := demo.Traffic{Broker: p.publish, Streams: p.broker, Random: random}
	if err := traffic.Run(ctx); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// demoPage is the demo's page, and streams for whatever is not its own.
func demoPage(cfg Config, tokens *auth.Tokens, publish demo.Publisher, rest string, streams http.Handler) (http.Handler, error) {
	page, err := demo.New(demo.Config{
		Events:       cfg.SSE.Path,
		Cookie:       cfg.Auth.Cookie,
		Anonymous:    cfg.Auth.Anonymous,
		Control:      CurlTarget(rest),
		ControlToken: len(cfg.Control.Tokens) > 0,
		Tokens:       tokens,
		Publisher:    publish,
		Streams:      streams,
	})
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	return page, nil
}
