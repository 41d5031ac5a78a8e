package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// firefox is a running Firefox. It needs no driver, because it implements WebDriver
// BiDi itself.
type firefox struct {
	*process
	*bidi

	// focus is held while keys are pressed in a window, and while windows are opened
	// or closed, since that moves the focus.
	focus sync.Mutex

	mu      sync.Mutex
	console map[string][]string // by browsing context
}

// firefoxPreferences restricts the browser to loopback connections and reduces the
// number of processes, because the pages come from the test.
const firefoxPreferences = `
user_pref("network.proxy.type", 1);
user_pref("network.proxy.http", "127.0.0.1");
user_pref("network.proxy.http_port", 9);
user_pref("network.proxy.ssl", "127.0.0.1");
user_pref("network.proxy.ssl_port", 9);
user_pref("dom.ipc.processCount", 1);
user_pref("layout.frame_rate", 20); // nobody watches
user_pref("dom.ipc.processPrelaunch.enabled", false);
user_pref("fission.autostart", false);
user_pref("dom.min_background_timeout_value", 10);
user_pref("browser.newtab.preload", false);
user_pref("browser.newtabpage.enabled", false);
user_pref("browser.startup.homepage", "about:blank");
user_pref("browser.startup.page", 0);
user_pref("browser.safebrowsing.malware.enabled", false);
user_pref("browser.safebrowsing.phishing.enabled", false);
user_pref("extensions.webextensions.remote", false);
user_pref("ui.prefersReducedMotion", 1);
user_pref("toolkit.cosmeticAnimations.enabled", false);
user_pref("places.history.enabled", false);
`

// startFirefox starts a Firefox with a profile in dir. If it is isolated, each of its first
// tabs has a process of its own.
func startFirefox(dir, program string, isolated bool) (*firefox, error) {
	preferences := firefoxPreferences
	if isolated {
		preferences += `user_pref("dom.ipc.processCount", 8);` + "\n" // the last one counts
	}

	profile := filepath.Join(dir, "firefox")
	if err := os.MkdirAll(profile, 0o700); err != nil {
		return nil, err
	}

	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(preferences), 0o600); err != nil {
		return nil, err
	}

	started, err := startProcess([]string{"HOME=" + dir, "MOZ_CRASHREPORTER_DISABLE=1"}, program,
		"--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0")
	if err != nil {
		return nil, err
	}

	f := &firefox{process: started, console: map[string][]string{}}
	if err := f.connect(); err != nil {
		started.stop()

		return nil, err
	}

	return f, nil
}

func (f *firefox) connect() error {
	address, err := f.waitForOutput(regexp.MustCompile(`WebDriver BiDi listening on (ws://\S+)`))
	if err != nil {
		return err
	}

	f.bidi, err = dialBiDi(address+"/session", f.logged)
	if err != nil {
		return err
	}

	err = f.call("session.new", object{"capabilities": object{"alwaysMatch": object{"acceptInsecureCerts": true}}}, nil)
	if err != nil {
		return err
	}

	return f.call("session.subscribe", object{"events": []string{"log.entryAdded"}}, nil)
}

// logged records a console entry.
func (f *firefox) logged(_ string, params json.RawMessage) {
	var entry struct {
		Level  string `json:"level"`
		Text   string `json:"text"`
		Source struct {
			Context string `json:"context"`
		} `json:"source"`
	}

	if json.Unmarshal(params, &entry) != nil || (entry.Level != "warn" && entry.Level != "error") {
		return
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	f.console[entry.Source.Context] = append(f.console[entry.Source.Context], entry.Level+": "+entry.Text)
}

func (f *firefox) stop() {
	f.close()
	f.process.stop()
}

// firefoxProfile is a user context in a Firefox process.
type firefoxProfile struct {
	firefox *firefox
	context string
}

func (p *processes) newFirefoxProfile(program string) (profile, error) {
	f, err := p.firefox.get(p.dir, func(dir string) (*firefox, error) { return startFirefox(dir, program, p.isolated) })
	if err != nil {
		return nil, err
	}

	var made struct{ UserContext string }

	if err := f.call("browser.createUserContext", object{}, &made); err != nil {
		return nil, err
	}

	return &firefoxProfile{f, made.UserContext}, nil
}

func (f *firefoxProfile) open() (page, error) {
	var made struct{ Context string }

	f.firefox.focus.Lock()
	defer f.firefox.focus.Unlock()

	// A page in its own window is visible, so its timers aren't throttled.
	err := f.firefox.call("browsingContext.create", object{"type": "window", "userContext": f.context}, &made)
	if err != nil {
		return nil, err
	}

	p := &firefoxPage{f.firefox, made.Context}

	// A new window gets the focus. Wait for it, so that it isn't taken from another
	// window later, while keys are pressed there.
	if err := p.takeFocus(); err != nil {
		return nil, err
	}

	return p, nil
}

func (f *firefoxProfile) close() error {
	f.firefox.focus.Lock()
	defer f.firefox.focus.Unlock()

	return f.firefox.call("browser.removeUserContext", object{"userContext": f.context}, nil)
}

// firefoxPage is a window in a Firefox process.
type firefoxPage struct {
	firefox *firefox
	context string
}

func (p *firefoxPage) call(method string, params object) error {
	params["context"] = p.context

	return p.firefox.call(method, params, nil)
}

func (p *firefoxPage) open(url string) error {
	return p.call("browsingContext.navigate", object{"url": url, "wait": "complete"})
}

func (p *firefoxPage) eval(expression string) (string, error) {
	var reply struct {
		Result           struct{ Value string }
		ExceptionDetails struct{ Text string }
		Type             string
	}

	err := p.firefox.call("script.evaluate", object{
		"expression": expression, "target": object{"context": p.context}, "awaitPromise": false,
	}, &reply)
	if err == nil && reply.Type == "exception" {
		err = fmt.Errorf("%s", strings.TrimSpace(reply.ExceptionDetails.Text))
	}

	return reply.Result.Value, err
}

func (p *firefoxPage) click(x, y int) error {
	return p.call("input.performActions", object{"actions": clickActions(x, y)})
}

func (p *firefoxPage) press(keys string) error {
	p.firefox.focus.Lock()
	defer p.firefox.focus.Unlock()

	if err := p.takeFocus(); err != nil {
		return err
	}

	return p.call("input.performActions", object{"actions": keyActions(keys)})
}

// takeFocus moves the focus to the window if another one has it. The caller holds
// p.firefox.focus. A page in a window without the focus gets all keys, but Enter
// doesn't click the button that is focused in the page.
func (p *firefoxPage) takeFocus() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	for wait := shortestWait; ; wait = min(wait*3/2, longestWait) {
		focused, err := p.eval(`String(document.hasFocus())`)
		if err != nil || focused == "true" {
			return err
		}

		if err := p.call("browsingContext.activate", object{}); err != nil {
			return err
		}

		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("waiting for the focus: %w", ctx.Err())
		}
	}
}

func (p *firefoxPage) resize(width, height int) error {
	return p.call("browsingContext.setViewport", object{"viewport": object{"width": width, "height": height}})
}

func (p *firefoxPage) console() []string {
	p.firefox.mu.Lock()
	defer p.firefox.mu.Unlock()

	return append([]string(nil), p.firefox.console[p.context]...)
}

func (p *firefoxPage) browserProcess() int { return p.firefox.cmd.Process.Pid }

func (p *firefoxPage) close() error {
	p.firefox.focus.Lock()
	defer p.firefox.focus.Unlock()

	return p.call("browsingContext.close", object{})
}
