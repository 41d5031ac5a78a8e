package daemon

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/hooks"
)

const (
	// maxHooks is the maximum number of entries in hooks. It is limited because each one
	// needs memory for every user and topic.
	maxHooks = 16
	// defaultHookDelay applies to hooks without a delay. It is longer than browsers wait
	// before they reconnect.
	defaultHookDelay = 5 * time.Second
	maxHookDelay     = time.Hour
)

// Hook is an entry of hooks.
type Hook struct {
	// URL is the URL of the receiver.
	URL string `mapstructure:"url"`
	// Events holds the types of events that the receiver gets. If it is empty, the
	// receiver gets all of them.
	Events []string `mapstructure:"events"`
	// Secret signs the requests. It may consist of several secrets, separated by spaces.
	Secret string `mapstructure:"secret"`
	// Delay is how long a user or topic must be without streams before the receiver is
	// notified. If it is nil, it is 5s.
	Delay *time.Duration `mapstructure:"delay"`
}

func (c Config) checkHooks() *SettingError {
	if n := len(c.Hooks); n > maxHooks {
		return &SettingError{"hooks", strconv.Itoa(n) + " hooks", fmt.Sprintf("at most %d", maxHooks)}
	}
	names := make(map[string]bool)
	for i, h := range c.Hooks {
		prefix := fmt.Sprintf("hooks[%d].", i)
		if err := h.check(prefix); err != nil {
			return err
		}
		name := h.Name()
		if names[name] {
			return &SettingError{prefix + "url", strconv.Quote(name) + ", which an earlier hook has too", "URLs that differ in more than the query"}
		}
		names[name] = true
	}
	return nil
}

// check checks the hook. Prefix is the start of the keys in errors, which contain neither
// the secret nor the parts of the URL that may be secret.
func (h Hook) check(prefix string) *SettingError {
	u, err := url.Parse(h.URL)
	switch {
	case h.URL == "":
		return &SettingError{prefix + "url", "nothing", "a URL that begins with https:// or http://"}
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return &SettingError{prefix + "url", "an invalid URL", "a URL that begins with https:// or http://"}
	case u.Fragment != "":
		return &SettingError{prefix + "url", "a URL with a fragment", "a URL without #"}
	}

	for i, event := range h.Events {
		if !slices.Contains(hooks.EventTypes(), event) {
			return &SettingError{prefix + "events", strconv.Quote(event), "user.online, user.offline, topic.occupied or topic.vacated"}
		}
		if slices.Contains(h.Events[:i], event) {
			return &SettingError{prefix + "events", strconv.Quote(event) + " twice", "each type of event once"}
		}
	}

	if err := hooks.CheckSecret(h.Secret); err != nil {
		return &SettingError{prefix + "secret", err.Error(), `"whsec_" followed by 24 to 64 random bytes in base64, such as the output of: echo whsec_$(openssl rand -base64 32)`}
	}
	if h.Delay != nil && (*h.Delay < 0 || *h.Delay > maxHookDelay) {
		return &SettingError{prefix + "delay", h.Delay.String(), "0s to " + maxHookDelay.String()}
	}
	return nil
}

// Name returns the part of the URL that identifies the hook in logs, metrics and calls.
// It leaves out the user info and the query, since these may be secret.
func (h Hook) Name() string { return h.internal().Name() }

// internal returns the hook with its defaults.
func (h Hook) internal() hooks.Hook {
	converted := hooks.Hook{URL: h.URL, Events: h.Events, Secret: h.Secret, Delay: defaultHookDelay}
	if len(h.Events) == 0 {
		converted.Events = hooks.EventTypes()
	}
	if h.Delay != nil {
		converted.Delay = *h.Delay
	}
	return converted
}

// isExposed reports whether requests could be read on the network.
func (h Hook) isExposed() bool {
	u, err := url.Parse(h.URL)
	return err == nil && u.Scheme == "http" && !isLoopback(net.JoinHostPort(u.Hostname(), "80"))
}

func internalHooks(configured []Hook) []hooks.Hook {
	converted := make([]hooks.Hook, 0, len(configured))
	for _, h := range configured {
		converted = append(converted, h.internal())
	}
	return converted
}

// buildHooks builds the part that sends webhooks.
func (p *parts) buildHooks() {
	cfg := hooks.Config{
		Follow:  func() hooks.Source { return hooks.Local(p.broker) },
		Serving: func() bool { return !p.draining.Load() },
		Version: p.opts.Version,
		Logger:  p.log,
	}
	if p.member != nil {
		directory := p.member.directory
		cfg.Follow = func() hooks.Source { return directory.Follow() }
		cfg.Cluster, cfg.Node = directory, directory.Name()
		cfg.Serving = func() bool {
			serving, _ := p.member.node.Serving()
			return serving && !p.draining.Load()
		}
	}
	p.hooks = hooks.New(cfg)
	p.hooks.Reconfigure(internalHooks(p.cfg.Hooks))
}

// controlHooks is a [control.Hooks].
type controlHooks struct{ manager *hooks.Manager }

// Status implements [control.Hooks].
func (c controlHooks) Status() []control.Hook {
	all := c.manager.Status()
	converted := make([]control.Hook, 0, len(all))
	for _, s := range all {
		converted = append(converted, control.Hook{
			URL: s.URL, Events: s.Events, Delay: s.Delay, State: hookState(s.State), Pending: s.Pending,
			Sent: s.Sent, Snapshots: s.Snapshots, Dropped: s.Dropped, Failed: s.Failed,
			LastError: s.LastError, LastFailure: s.LastFailure, LastSuccess: s.LastSuccess,
		})
	}
	return converted
}

func hookState(s hooks.State) control.HookState {
	switch s {
	case hooks.Standby:
		return control.HookStandby
	case hooks.Sending:
		return control.HookSending
	case hooks.Failing:
		return control.HookFailing
	case hooks.Starting:
		return control.HookStarting
	default:
		return control.HookStarting
	}
}

// Test implements [control.Hooks].
func (c controlHooks) Test(ctx context.Context, name string) (control.HookTest, bool) {
	result, err := c.manager.Test(ctx, name)
	return control.HookTest(result), err == nil
}
