package browsertest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/peald/peald/internal/testbed"
)

// miniBrowser returns the path of the browser included in WebKitGTK.
func miniBrowser(tb testing.TB) string {
	tb.Helper()

	found, err := filepath.Glob("/usr/lib/*/webkit2gtk-4.*/MiniBrowser")
	if err != nil || len(found) == 0 {
		testbed.Missingf(tb, "MiniBrowser of WebKitGTK is not installed (Debian package webkit2gtk-driver)")
	}

	return found[len(found)-1]
}

// display is an X server without a screen. WebKitGTK has no headless mode.
type display struct {
	*process

	name string
}

func startDisplay(program string) (*display, error) {
	// The server chooses an unused display number and writes it to standard
	// output.
	started, err := startProcess(nil, program, "-displayfd", "1", "-screen", "0", "1600x1400x24", "-nolisten", "tcp")
	if err != nil {
		return nil, err
	}

	number, err := started.waitForOutput(regexp.MustCompile(`(?m)^(\d+)\n`))
	if err != nil {
		started.stop()

		return nil, err
	}

	return &display{started, ":" + number}, nil
}

// webkit is a running WebKitGTK browser with its driver.
type webkit struct {
	webdriver

	driver *process

	// mu protects the current window of the driver. Commands apply to the window
	// that was selected last.
	mu      sync.Mutex
	current string // handle of the window; empty after it was closed
	unused  string // handle of the window that the browser started with
}

func (p *processes) newWebKit(found programs) (profile, error) {
	screen, err := p.display.get(p.dir, func(string) (*display, error) { return startDisplay(found.display) })
	if err != nil {
		return nil, err
	}

	addr, err := testbed.FreeAddr()
	if err != nil {
		return nil, err
	}

	_, port, _ := net.SplitHostPort(addr)

	if err := disableAnimations(p.dir); err != nil {
		return nil, err
	}

	driver, err := startProcess([]string{
		"DISPLAY=" + screen.name,
		"GDK_BACKEND=x11",
		"HOME=" + p.dir,
		"LC_ALL=C", // with C.UTF-8, the language of WebKit is "C", which Intl rejects
		// Without a GPU, rendering on the CPU takes half as long as emulating a
		// GPU.
		"WEBKIT_SKIA_ENABLE_CPU_RENDERING=1",
		"WEBKIT_DISABLE_DMABUF_RENDERER=1",
		"WEBKIT_DISABLE_COMPOSITING_MODE=1",
	}, found.driver, "--host=127.0.0.1", "--port="+port)
	if err != nil {
		return nil, err
	}

	w := &webkit{webdriver: webdriver{"http://" + addr}, driver: driver}
	if err := w.connect(found.browser); err != nil {
		driver.stop()

		return nil, fmt.Errorf("%w\n%s", err, &driver.log)
	}

	return w, nil
}

// disableAnimations disables GTK animations for a home directory. Pages see this
// as prefers-reduced-motion. Without a GPU, an endless animation keeps a CPU
// busy.
func disableAnimations(home string) error {
	for _, version := range []string{"gtk-3.0", "gtk-4.0"} {
		dir := filepath.Join(home, ".config", version)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("write GTK settings: %w", err)
		}

		const settings = "[Settings]\ngtk-enable-animations=0\n"
		if err := os.WriteFile(filepath.Join(dir, "settings.ini"), []byte(settings), 0o600); err != nil {
			return fmt.Errorf("write GTK settings: %w", err)
		}
	}

	return nil
}

func (w *webkit) connect(browser string) error {
	if !testbed.Eventually(patience, func() bool {
		return w.driver.hasExited() || w.call(http.MethodGet, "/status", nil, nil) == nil
	}) {
		return fmt.Errorf("%s doesn't reply", w.base)
	}

	var made struct{ SessionID string }

	err := w.call(http.MethodPost, "/session", object{"capabilities": object{"alwaysMatch": object{
		"acceptInsecureCerts":      true,
		"webkitgtk:browserOptions": object{"binary": browser, "args": []string{"--automation"}},
	}}}, &made)
	if err != nil {
		return err
	}

	w.base += "/session/" + made.SessionID

	if err := w.call(http.MethodGet, "/window", nil, &w.current); err != nil {
		return err
	}

	w.unused = w.current

	return nil
}

func (w *webkit) open() (page, error) {
	w.mu.Lock()
	defer w.mu.Unlock()

	handle := w.unused
	w.unused = ""

	if handle == "" {
		// A new window can only be opened from one that exists.
		if err := w.selectAny(); err != nil {
			return nil, err
		}

		var made struct{ Handle string }

		if err := w.call(http.MethodPost, "/window/new", object{"type": "window"}, &made); err != nil {
			return nil, err
		}

		handle = made.Handle
	}

	return &webkitPage{w, handle}, nil
}

// selectAny selects a window if the current one was closed. The caller holds w.mu.
func (w *webkit) selectAny() error {
	if w.current != "" {
		return nil
	}

	var handles []string

	if err := w.call(http.MethodGet, "/window/handles", nil, &handles); err != nil || len(handles) == 0 {
		return fmt.Errorf("find an open window among %q: %w", handles, err)
	}

	return w.choose(handles[0])
}

// choose makes a window the current one. The caller holds w.mu.
func (w *webkit) choose(handle string) error {
	if w.current == handle {
		return nil
	}

	if err := w.call(http.MethodPost, "/window", object{"handle": handle}, nil); err != nil {
		return err
	}

	w.current = handle

	return nil
}

func (w *webkit) close() error {
	err := w.call(http.MethodDelete, "", nil, nil)

	w.driver.stop()

	return err
}

// webkitPage is a window in a WebKit process.
type webkitPage struct {
	webkit *webkit
	handle string
}

// call sends a command for this window.
func (p *webkitPage) call(method, path string, params object, value any) error {
	p.webkit.mu.Lock()
	defer p.webkit.mu.Unlock()

	if err := p.webkit.choose(p.handle); err != nil {
		return err
	}

	return p.webkit.call(method, path, params, value)
}

// open also removes shadows from the page. Without a GPU, drawing them takes five times
// as long as everything else.
func (p *webkitPage) open(url string) error {
	if err := p.call(http.MethodPost, "/url", object{"url": url}, nil); err != nil {
		return err
	}

	_, err := p.eval(`((sheet) => {
		sheet.replaceSync("* { box-shadow: none !important }");
		document.adoptedStyleSheets.push(sheet);
		return "";
	})(new CSSStyleSheet())`)

	return err
}

func (p *webkitPage) eval(expression string) (value string, err error) {
	err = p.call(http.MethodPost, "/execute/sync", object{"script": "return (" + expression + ")", "args": []any{}}, &value)

	return value, err
}

func (p *webkitPage) click(x, y int) error {
	return p.call(http.MethodPost, "/actions", object{"actions": clickActions(x, y)}, nil)
}

func (p *webkitPage) press(keys string) error {
	return p.call(http.MethodPost, "/actions", object{"actions": keyActions(keys)}, nil)
}

func (p *webkitPage) resize(width, height int) error {
	return p.call(http.MethodPost, "/window/rect", object{"width": width, "height": height}, nil)
}

func (p *webkitPage) console() []string { return nil }

func (p *webkitPage) browserProcess() int { return p.webkit.driver.cmd.Process.Pid }

func (p *webkitPage) close() error {
	err := p.call(http.MethodDelete, "/window", nil, nil)

	p.webkit.mu.Lock()
	defer p.webkit.mu.Unlock()

	p.webkit.current = ""

	return err
}
