package daemon

import (
	"fmt"
	"slices"
	"strings"
)

// reload applies new settings, or logs why they can't be applied.
func (p *parts) reload(r Reload) {
	err := r.Err
	var changed []string
	if err == nil {
		changed, err = p.apply(r.Config)
	}

	if r.Reread {
		p.files.reread()
		if tokens := p.auth.Load().tokens; tokens != nil {
			tokens.Reread()
		}
	}

	if err != nil {
		p.reloads.failed()
		p.log.Error("configuration not reloaded", "error", err)
		return
	}

	p.reloads.succeeded()
	names := "nothing"
	if len(changed) > 0 {
		names = strings.Join(changed, ", ")
	}
	p.log.Info("configuration reloaded", "changed", names)
	p.setLogLevel()
	p.warn(func(key string) bool { return slices.Contains(changed, key) })
}

// apply applies all new settings that can change at runtime, and returns the keys of
// those that changed. If it returns an error, it has applied none.
func (p *parts) apply(given Config) (changed []string, _ error) {
	given, trimmed := p.opts.Inherited.override(given).trimSecrets()
	if err := given.Validate(); err != nil {
		return nil, err
	}
	if p.demoSecret != "" && !given.Auth.JWT.hasKey() && given.Auth.CallbackURL == "" {
		given.Auth.JWT.HMACSecret = p.demoSecret
	}

	next := p.cfg.with(given)
	// Settings that change may conflict with those that don't. For example, tokens may
	// be removed while a listener is open to the network.
	if err := p.checkRunning(next); err != nil {
		return nil, fmt.Errorf("conflicts with settings that can't change without a restart: %w", err)
	}

	descriptors, err := descriptorBudget(next.SSE.MaxConnections)
	if err != nil {
		return nil, err
	}
	auth, old, err := p.auth.Load().reconfigure(p.cfg.Auth, next.Auth, p.log)
	if err != nil {
		return nil, err
	}
	if p.opts.Demo {
		page, err := newDemoPage(next, auth.tokens, p.publisher, p.sockets.rest.Address(), p.streams)
		if err != nil {
			return nil, err
		}
		p.demoPage.Store(&page)
	}

	// Nothing can fail from here on.
	for _, d := range p.cfg.differences(next) {
		changed = append(changed, d.given.Key)
	}
	p.warnOfTrimmedSecrets(trimmed, func(key string) bool { return slices.Contains(changed, key) })
	p.warnOfRestart(next.differences(given))

	p.cfg = next
	p.auth.Store(&auth)
	p.maxStreams.Store(int64(descriptors.Streams))
	p.setTrustedProxies(next.SSE)
	p.sockets.sse.SetPeerTimeout(peerTimeout(next))
	p.broker.Reconfigure(brokerConfig(next))
	p.streams.Reconfigure(streamsConfig(next, auth, descriptors.Streams, p.log), auth.verifier())
	p.control.Reconfigure(p.controlConfig(next, descriptors.Streams), auth.minter())
	if slices.Contains(changed, "hooks") {
		p.hooks.Reconfigure(internalHooks(next.Hooks))
	}
	if slices.Contains(changed, "sources") {
		p.sources.Reconfigure(internalSources(next.Sources))
	}

	// A lower level takes effect immediately, so that the messages about the reload are
	// logged. A higher level takes effect after they have been logged.
	if level := next.Log.Threshold(); p.opts.LogLevel != nil && level < p.opts.LogLevel.Level() {
		p.opts.LogLevel.Set(level)
	}
	old.close()

	return changed, nil
}

// checkRunning returns an error if the running daemon can't switch to next.
func (p *parts) checkRunning(next Config) error {
	if err := next.Validate(); err != nil {
		return err
	}
	if !p.opts.Demo {
		return nil
	}

	if next.Auth.JWT.HMACSecret == p.demoSecret {
		next.Auth.JWT.HMACSecret = ""
	}
	return checkDemo(next)
}

// warnOfRestart logs settings that have changed but need a restart to take effect.
func (p *parts) warnOfRestart(stale []difference) {
	if len(stale) == 0 {
		return
	}

	args := make([]any, 0, 2*len(stale))
	for _, d := range stale {
		args = append(args, d.runs.Key, d.runs.shown()+" in effect, "+d.given.shown()+" given")
	}
	p.log.Warn("changed settings need a restart", args...)
}

func (p *parts) setLogLevel() {
	if p.opts.LogLevel != nil {
		p.opts.LogLevel.Set(p.cfg.Log.Threshold())
	}
}
