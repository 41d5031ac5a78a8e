package browsertest

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// chromium is a running Chromium.
type chromium struct {
	ctx    context.Context //nolint:containedctx // chromedp keeps its state in contexts
	cancel context.CancelFunc
}

func startChromium(program string) (*chromium, error) {
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(program),
		// The sandbox doesn't work as root, which CI runs as. It isn't needed,
		// because the pages come from the test.
		chromedp.NoSandbox,
		chromedp.DisableGPU,
		chromedp.IgnoreCertErrors,
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true),
	)

	allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	c := &chromium{ctx, func() {
		cancel()
		cancelAllocator()
	}}

	if err := chromedp.Do(ctx); err != nil {
		c.cancel()

		return nil, err
	}

	return c, nil
}

func (c *chromium) stop() {
	_ = chromedp.Cancel(c.ctx)
	c.cancel()
}

// chromiumProfile is a browser context in a Chromium process.
type chromiumProfile struct {
	chromium *chromium
	id       cdp.BrowserContextID
	pages    []*chromiumPage
}

func (p *processes) newChromiumProfile(program string) (profile, error) {
	c, err := p.chromium.get(p.dir, func(string) (*chromium, error) { return startChromium(program) })
	if err != nil {
		return nil, err
	}

	created, err := chromedp.CallBrowser(c.ctx, target.CreateBrowserContext, target.CreateBrowserContextParams{})
	if err != nil {
		return nil, err
	}

	return &chromiumProfile{chromium: c, id: created.BrowserContextID}, nil
}

func (c *chromiumProfile) open() (page, error) {
	ctx, cancel := chromedp.NewContext(c.chromium.ctx, chromedp.WithExistingBrowserContext(c.id))
	opened := &chromiumPage{ctx: ctx, cancel: cancel}

	// No timeout, because the tab is closed with the context of its first action.
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 1024)); err != nil {
		cancel()

		return nil, err
	}

	c.pages = append(c.pages, opened)
	opened.collectConsole()

	return opened, nil
}

func (c *chromiumProfile) close() error {
	for _, opened := range slices.Backward(c.pages) {
		_ = opened.close() // it may already be closed
	}

	_, err := chromedp.CallBrowser(c.chromium.ctx, target.DisposeBrowserContext, target.DisposeBrowserContextParams{BrowserContextID: c.id})

	return err
}

// chromiumPage is a tab in a Chromium process.
type chromiumPage struct {
	ctx    context.Context //nolint:containedctx // as above
	cancel context.CancelFunc

	mu    sync.Mutex
	lines []string // console messages

	collecting sync.WaitGroup
}

func (p *chromiumPage) do(actions ...chromedp.Action[chromedp.Void]) error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()

	return chromedp.Do(ctx, actions...)
}

func (p *chromiumPage) open(url string) error { return p.do(chromedp.Navigate(url)) }

func (p *chromiumPage) eval(expression string) (string, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()

	return chromedp.Run(ctx, chromedp.Evaluate[string](expression))
}

func (p *chromiumPage) click(x, y int) error {
	return p.do(chromedp.MouseClickXY(float64(x), float64(y)))
}

func (p *chromiumPage) press(keys string) error {
	return p.do(chromedp.KeyEvent(strings.NewReplacer(
		KeyBackspace, kb.Backspace, KeyTab, kb.Tab, KeyEnter, kb.Enter,
		KeyEscape, kb.Escape, KeyRight, kb.ArrowRight, KeyDown, kb.ArrowDown).Replace(keys)))
}

func (p *chromiumPage) resize(width, height int) error {
	return p.do(chromedp.EmulateViewport(int64(width), int64(height)))
}

func (p *chromiumPage) collectConsole() {
	messages := chromedp.Console(p.ctx)

	p.collecting.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}

			if m.Type != chromedp.ConsoleLog && m.Type != chromedp.ConsoleInfo && m.Type != chromedp.ConsoleDebug {
				p.mu.Lock()
				p.lines = append(p.lines, m.String())
				p.mu.Unlock()
			}
		}
	})
}

func (p *chromiumPage) console() []string {
	p.mu.Lock()
	defer p.mu.Unlock()

	return slices.Clone(p.lines)
}

func (p *chromiumPage) browserProcess() int { return chromedp.FromContext(p.ctx).Browser.Process().Pid }

func (p *chromiumPage) close() error {
	err := chromedp.Cancel(p.ctx)

	p.cancel()
	p.collecting.Wait()

	return err
}

// Chromium returns the chromedp context of a tab in Chromium, for operations that
// WebDriver doesn't support. For other browsers it returns nil.
func (p *Tab) Chromium() context.Context {
	if opened, ok := p.page.(*chromiumPage); ok {
		return opened.ctx
	}

	return nil
}
