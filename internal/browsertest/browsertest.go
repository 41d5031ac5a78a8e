// Package browsertest controls real browsers in tests: Chromium over its DevTools
// protocol, Firefox over WebDriver BiDi, and WebKitGTK over WebDriver.
//
// A package that uses it runs its tests with [Main]:
//
//	func TestMain(m *testing.M) { os.Exit(browsertest.Main(m)) }
package browsertest

import (
	"testing"
	"time"

	"github.com/peald/peald/internal/testbed"
)

// Kind is a kind of browser.
type Kind string

// The supported browsers.
const (
	Chromium Kind = "Chromium"
	Firefox  Kind = "Firefox"
	WebKit   Kind = "WebKit"
)

// Kinds returns all kinds of browsers.
func Kinds() []Kind { return []Kind{Chromium, Firefox, WebKit} }

// patience is the time limit for each operation. It is long because, on a busy
// machine, a browser can take seconds to do what otherwise takes milliseconds.
const patience = 90 * time.Second

// Browser is a browser with its own cookies and storage.
type Browser struct {
	Kind Kind

	profile profile
}

// profile is the part of a Browser that depends on its kind.
type profile interface {
	open() (page, error)
	close() error
}

// Each runs test in every kind of browser, as parallel subtests.
func Each(t *testing.T, test func(t *testing.T, b *Browser)) {
	t.Helper()

	for _, kind := range Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, Start(t, kind))
		})
	}
}

// Start returns a browser that is closed after the test. It accepts every TLS
// certificate. If the browser isn't installed, the test is skipped, or fails if CI is
// set.
//
// The tests of a process share one Chromium and one Firefox, in which each Browser is
// a profile. Each WebKit is a separate process.
func Start(tb testing.TB, kind Kind) *Browser {
	tb.Helper()

	return running.start(tb, kind)
}

// Installed returns the kinds of browsers that are installed. It looks for each of them in
// a subtest, which is skipped if the browser is missing, or fails if CI is set.
func Installed(t *testing.T) (kinds []Kind) {
	t.Helper()

	for _, kind := range Kinds() {
		t.Run("find "+string(kind), func(t *testing.T) {
			running.find(t, kind)

			kinds = append(kinds, kind)
		})
	}

	return kinds
}

// find returns the programs of a browser.
func (p *processes) find(tb testing.TB, kind Kind) (found programs) {
	tb.Helper()

	switch kind {
	case Chromium:
		found.browser = testbed.Program(tb, p.chromiumPrograms...)
	case Firefox:
		found.browser = testbed.Program(tb, "firefox-esr", "firefox")
	case WebKit:
		found.driver = testbed.Program(tb, "WebKitWebDriver")
		found.browser = miniBrowser(tb)
		found.display = testbed.Program(tb, "Xvfb")
	default:
		tb.Fatalf("unknown kind of browser %q", kind)
	}

	return found
}

func (p *processes) start(tb testing.TB, kind Kind) *Browser {
	tb.Helper()

	if p.dir == "" {
		tb.Fatal(errNoMain)
	}

	var (
		opened profile
		err    error
	)

	switch found := p.find(tb, kind); kind {
	case Chromium:
		opened, err = p.newChromiumProfile(found.browser)
	case Firefox:
		opened, err = p.newFirefoxProfile(found.browser)
	default:
		opened, err = p.newWebKit(found)
	}

	if err != nil {
		tb.Fatalf("start %s: %v", kind, err)
	}

	tb.Cleanup(func() {
		if err := opened.close(); err != nil {
			tb.Errorf("close %s: %v", kind, err)
		}
	})

	return &Browser{Kind: kind, profile: opened}
}

// NewTab opens an empty tab, which is closed with the browser.
func (b *Browser) NewTab(tb testing.TB) *Tab {
	tb.Helper()

	opened, err := b.profile.open()
	if err != nil {
		tb.Fatalf("%s: open a tab: %v", b.Kind, err)
	}

	return &Tab{kind: b.Kind, page: opened}
}

// Open opens a page in a new tab and returns once it is loaded.
func (b *Browser) Open(tb testing.TB, url string) *Tab {
	tb.Helper()

	tab := b.NewTab(tb)
	tab.Open(tb, url)

	return tab
}
