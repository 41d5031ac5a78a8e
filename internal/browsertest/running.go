package browsertest

import (
	"errors"
	"os"
	"sync"
	"testing"
)

// running holds the browsers that the tests of this process share.
//
//nolint:gochecknoglobals // it is the only thing that tests have in common
var running processes

// Main runs the tests and then stops the browsers that they started. It returns the
// exit code.
//
// Chromium is the first of the given programs that is installed. If none are
// given, Main prefers the headless shell, which is Chromium without its user
// interface. It needs 0.2 s of CPU time per browser instead of 1.5 s.
func Main(m *testing.M, chromium ...string) int {
	running.chromiumPrograms = chromium
	if len(chromium) == 0 {
		running.chromiumPrograms = append([]string{"chromium-headless-shell"}, WholeChromium()...)
	}

	dir, err := os.MkdirTemp("", "browsertest-")
	if err != nil {
		panic(err)
	}

	running.dir = dir

	defer func() {
		running.stop()
		_ = os.RemoveAll(dir)
	}()

	return m.Run()
}

// WholeChromium returns the names of the programs that run the complete Chromium,
// including its user interface.
func WholeChromium() []string { return []string{"chromium", "chromium-browser", "google-chrome"} }

// processes holds the shared processes, which are started on first use.
type processes struct {
	dir              string // directory for profiles; empty outside Main
	isolated         bool   // tabs don't share processes
	chromiumPrograms []string

	chromium once[*chromium]
	firefox  once[*firefox]
	display  once[*display]
}

func (p *processes) stop() {
	p.chromium.stop()
	p.firefox.stop()
	p.display.stop()
}

// programs holds the paths of the programs that a browser requires. Only WebKit has a
// driver and a display.
type programs struct{ browser, driver, display string }

// once holds a process that is started at most once.
type once[T interface{ stop() }] struct {
	mu      sync.Mutex
	tried   bool
	started T
	err     error
}

var errNoMain = errors.New("the package's TestMain must call browsertest.Main")

// get returns the results of the first call to start.
func (o *once[T]) get(dir string, start func(dir string) (T, error)) (T, error) {
	o.mu.Lock()
	defer o.mu.Unlock()

	if !o.tried {
		o.tried = true
		o.started, o.err = start(dir)
	}

	return o.started, o.err
}

func (o *once[T]) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()

	if o.tried && o.err == nil {
		o.started.stop()
	}
}
