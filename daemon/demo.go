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

// checkDemo returns an error if the demo can't run with cfg.
func checkDemo(cfg Config) error {
	if demo.Takes(cfg.SSE.Path) {
		return &SettingError{"sse.path", strconv.Quote(cfg.SSE.Path) + " with --demo", "a path other than /, and not under /demo/, where the demo page is"}
	}
	if !cfg.SSE.Client {
		return &SettingError{"sse.client", "false with --demo", "true, because the demo page imports the client"}
	}
	if cfg.Auth.JWT.HMACSecret != "" && !isLoopback(cfg.SSE.Addr) {
		return &SettingError{"sse.addr", strconv.Quote(cfg.SSE.Addr) + " with --demo and auth.jwt.hmac_secret", "a loopback address, because the demo gives anyone who can reach it a token for any user"}
	}
	if cfg.Auth.CallbackURL != "" || cfg.Auth.JWT.hasKey() && cfg.Auth.JWT.HMACSecret == "" {
		return &SettingError{"--demo", "auth.callback_url or keys that can't sign", "no keys at all, or auth.jwt.hmac_secret, with which the demo signs its visitors' tokens"}
	}
	return nil
}

// generateDemoSecret returns a random secret, with which tokens are signed for as long
// as the process runs.
func generateDemoSecret() string { return rand.Text() + rand.Text() }

// publishDemo publishes demo events until ctx ends or the broker closes.
func (p *parts) publishDemo(ctx context.Context) error {
	p.log.Warn("demo accepts any user name and publishes for anyone")

	random := mathrand.New(mathrand.NewPCG(mathrand.Uint64(), mathrand.Uint64()))

	traffic := demo.Traffic{Broker: p.publisher, Streams: p.broker, Random: random}
	if err := traffic.Run(ctx); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// newDemoPage returns a handler that serves the demo page, and passes all other
// requests to streams.
func newDemoPage(cfg Config, tokens *auth.Tokens, publisher demo.Publisher, rest string, streams http.Handler) (http.Handler, error) {
	page, err := demo.New(demo.Config{
		Events:       cfg.SSE.Path,
		Anonymous:    cfg.Auth.Anonymous,
		Control:      CurlTarget(rest),
		ControlToken: len(cfg.Control.Tokens) > 0,
		Tokens:       tokens,
		Publisher:    publisher,
		Streams:      streams,
	})
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	return page, nil
}
