package daemon

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// Reload is what was read of the settings while the daemon runs.
//
// The daemon goes over to it as far as it can: settings that take a restart
// keep what they run on, and one warning names them. Where anything is wrong
// with it, nothing changes, and one error in the log says what.
type Reload struct {
	// Config is what the settings say now.
	Config Config

	// Err, where not nil, is why that can't be told.
	Err error

	// Reread has the files that settings name, and key sets, read again even
	// where the settings are the same.
	Reread bool
}

// Threshold is the level below which nothing is to be logged.
func (l Log) Threshold() slog.Level {
	var level slog.Level
	_ = level.UnmarshalText([]byte(l.Level)) // it was checked
	return level
}

// reload goes over to new settings, or says why not.
func (p *parts) reload(r Reload) {
	err := r.Err
	var changed []string
	if err == nil {
		changed, err = p.change(r.Config)
	}
	if r.Reread {
		p.files.reread()
		if tokens := p.access.Load().tokens; tokens != nil {
			tokens.Reread()
		}
	}
	if err != nil {
		p.reloads.failed()
		p.log.Error("the configuration can't be reloaded; what runs stays as it is", "error", err)
		return
	}
	p.reloads.succeeded()
	said := "nothing"
	if len(changed) > 0 {
		said = strings.Join(changed, ", ")
	}
	p.log.Info("configuration reloaded", "changed", said)
	p.setLogLevel()
	p.warn(func(key string) bool { return slices.Contains(changed, key) })
}

// change changes what runs, all of it or, with an error, nothing. It returns
// the keys of what has changed.
func (p *parts) change(given Config) (changed []string, _ error) {
	given, trimmed := p.opts.Inherited.over(given).trimSecrets()
	if err := given.Validate(); err != nil {
		return nil, err
	}
	if p.madeSecret != "" && !given.Auth.JWT.hasKey() && given.Auth.CallbackURL == "" {
		given.Auth.JWT.HMACSecret = p.madeSecret
	}
	next := p.cfg.with(given)
	// What stays as it is may not go with what changes: an address that is open
	// to the network, say, with no tokens any more.
	if err := p.checkRunning(next); err != nil {
		return nil, fmt.Errorf("together with what takes a restart to change: %w", err)
	}
	descriptors, err := shareDescriptors(next.SSE.MaxConnections)
	if err != nil {
		return nil, err
	}
	access, old, err := p.access.Load().change(p.cfg.Auth, next.Auth, p.log)
	if err != nil {
		return nil, err
	}
	if p.demo {
		page, err := demoPage(next, access.tokens, p.publish, p.bound.addresses().REST, p.streams)
		if err != nil {
			return nil, err
		}
		p.page.Store(&page)
	}
	// From here on nothing fails.
	for _, d := range p.cfg.differences(next) {
		changed = append(changed, d.given.Key)
	}
	p.warnOfTrimmedSecrets(trimmed, func(key string) bool { return slices.Contains(changed, key) })
	p.warnOfRestart(next.differences(given))
	p.cfg = next
	p.access.Store(&access)
	p.maxStreams.Store(int64(descriptors.streams))
	p.trust(next.SSE)
	loseDeadPeersAfter(p.bound.sse, deadAfter(next))
	p.broker.Reconfigure(brokerConfig(next))
	p.streams.Reconfigure(streamsConfig(next, access, descriptors.streams, p.log), access.verifier())
	p.control.Reconfigure(p.controlConfig(next, descriptors.streams), access.minter())
	// So that the line which says that there is less to say is still said.
	if level := next.Log.Threshold(); p.logLevel != nil && level < p.logLevel.Level() {
		p.logLevel.Set(level)
	}
	old.close()
	return changed, nil
}

// checkRunning says whether a daemon that runs on p.cfg could do so on next.
func (p *parts) checkRunning(next Config) error {
	if err := next.Validate(); err != nil {
		return err
	}
	if !p.demo {
		return nil
	}
	if next.Auth.JWT.HMACSecret == p.madeSecret {
		next.Auth.JWT.HMACSecret = ""
	}
	return checkDemo(next)
}

// warnOfRestart names the settings that the daemon runs on otherwise than it
// was given, until it starts anew.
func (p *parts) warnOfRestart(stale []difference) {
	if len(stale) == 0 {
		return
	}
	args := make([]any, 0, 2*len(stale))
	for _, d := range stale {
		args = append(args, d.runs.Key, "runs on "+d.runs.shown()+", given "+d.given.shown())
	}
	p.log.Warn("settings that changed take a restart", args...)
}

func (p *parts) setLogLevel() {
	if p.logLevel != nil {
		p.logLevel.Set(p.cfg.Log.Threshold())
	}
}
