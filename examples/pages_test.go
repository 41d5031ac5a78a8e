package examples_test

import (
	"encoding/json"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

const patience = 90 * time.Second

// TestPage runs the page without a framework in each browser.
func TestPage(t *testing.T) {
	t.Parallel()
	browsertest.Each(t, func(t *testing.T, b *browsertest.Browser) {
		t.Helper()

		d, page := openShop(t, b, os.DirFS("html"), "client.html")
		testShop(t, d, page)

		page.Click(t, "#stop")
		page.waitForState(t, "closed")
		d.WaitForStreams(t, 0)
	})
}

// TestReact runs the React hook, in a component that StrictMode mounts twice.
func TestReact(t *testing.T) {
	t.Parallel()
	testFramework(t, "react")
}

// TestVue runs the Vue composable.
func TestVue(t *testing.T) {
	t.Parallel()
	testFramework(t, "vue")
}

// testFramework checks the types of an example, bundles it, and runs it. When its
// component is unmounted, the stream must be closed.
func testFramework(t *testing.T, folder string) {
	t.Helper()

	browser := browsertest.Start(t, browsertest.Chromium)
	files := bundle(t, folder)
	d, page := openShop(t, browser, files, "index.html")
	testShop(t, d, page)

	for _, data := range []string{"once", "twice"} {
		page.Click(t, "#stop")
		page.waitForState(t, "")
		d.WaitForStreams(t, 0)

		page.Click(t, "#stop")
		page.waitForState(t, "open")
		d.WaitForStreams(t, 1)
		d.publish(t, "stock.gongs", data)
		page.waitForLines(t, "stock.gongs: "+data)
	}
}

// testShop changes topics while events are published, and restarts the daemon. Every
// event must appear once and in order.
func testShop(t *testing.T, d *shopDaemon, page shopPage) {
	t.Helper()

	page.waitForState(t, "open")
	d.WaitForStreams(t, 1)

	if n := d.connects(t); n != 1 {
		t.Errorf("the page has opened %d streams, want 1", n)
	}

	d.publish(t, "stock.bells", "not subscribed yet")
	d.publish(t, "prices.bells", "€ 12")
	page.waitForLines(t, "prices.bells: € 12")

	// The subscription begins once the client has closed the previous stream.
	page.Click(t, "[value='stock.*']")
	d.waitForTopics(t, "prices.*", "stock.*")
	d.WaitForStreams(t, 1)
	d.publish(t, "stock.bells", "7 left")
	d.publish(t, "prices.gongs", "<b>€ 90</b>")

	lines := []string{"prices.bells: € 12", "stock.bells: 7 left", "prices.gongs: <b>€ 90</b>"}
	page.waitForLines(t, lines...)

	page.Click(t, "[value='prices.*']")
	d.waitForTopics(t, "stock.*")
	d.publish(t, "prices.bells", "not subscribed any more")
	d.publish(t, "stock.bells", "6 left")

	lines = append(lines, "stock.bells: 6 left")
	page.waitForLines(t, lines...)
	d.WaitForStreams(t, 1)

	d.restart(t)

	lines = append(lines, "Events are missing: unknown")
	page.waitForLines(t, lines...)
	page.waitForState(t, "open")
	d.publish(t, "stock.bells", "5 left")
	page.waitForLines(t, append(lines, "stock.bells: 5 left")...)
}

// bundle checks the types of an example and returns its files with its scripts
// bundled. It works on a copy, whose packages are in the user's cache.
func bundle(t *testing.T, folder string) fs.FS {
	t.Helper()

	npm := testbed.Program(t, "npm")
	root := t.TempDir()
	dir := filepath.Join(root, "examples", folder)

	for source, to := range map[string]string{folder: dir, "../clients/js": filepath.Join(root, "clients", "js")} {
		modules := testbed.NodeModules(t, source)

		if err := os.CopyFS(filepath.Join(to, "src"), os.DirFS(filepath.Join(source, "src"))); err != nil {
			t.Fatal(err)
		}

		if err := os.Symlink(modules, filepath.Join(to, "node_modules")); err != nil {
			t.Fatal(err)
		}
	}

	for _, name := range []string{"index.html", "package.json", "tsconfig.json"} {
		testbed.CopyFile(t, filepath.Join(folder, name), dir)
	}

	for _, script := range []string{"check", "build"} {
		do(t, dir, npm, "run", "--silent", script)
	}

	return os.DirFS(dir)
}

// shopDaemon is a daemon that the pages of the examples subscribe to.
type shopDaemon struct {
	*pealdtest.Daemon

	configure func(*daemon.Config)
}

// openShop serves a page, starts a daemon for it, and opens the page. The page uses
// that daemon in place of the one that it names.
func openShop(t *testing.T, b *browsertest.Browser, files fs.FS, name string) (*shopDaemon, shopPage) {
	t.Helper()

	var d shopDaemon

	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := fs.ReadFile(files, strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			http.NotFound(w, r)
			return
		}

		w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(r.URL.Path)))
		_, _ = io.WriteString(w, strings.ReplaceAll(string(text), "127.0.0.1:8080", d.SSE))
	}))
	t.Cleanup(pages.Close)

	d.configure = func(cfg *daemon.Config) {
		cfg.SSE.AllowedOrigins = []string{pages.URL}
		cfg.SSE.Retry = 50 * time.Millisecond
		cfg.Auth.AnonymousTopics = []string{">"}
	}
	d.Daemon = pealdtest.Start(t, d.configure)

	return &d, shopPage{b.Open(t, pages.URL+"/"+name)}
}

// restart replaces the daemon by another one, which has another history.
func (d *shopDaemon) restart(t *testing.T) {
	t.Helper()

	addr := d.SSE
	d.Stop(t)
	d.Daemon = pealdtest.Start(t, d.configure, func(cfg *daemon.Config) { cfg.SSE.Addr = addr })
}

func (d *shopDaemon) publish(t *testing.T, topic, data string) {
	t.Helper()

	if _, err := d.Control(t).Publish(t.Context(), &pealv1.PublishRequest{Topic: topic, Data: data}); err != nil {
		t.Fatal(err)
	}
}

// connects returns how many streams have been opened.
func (d *shopDaemon) connects(t *testing.T) int {
	t.Helper()

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.URL("/metrics"), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	metrics, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}

	_, after, _ := strings.Cut(string(metrics), "\npeald_connects_total ")
	value, _, _ := strings.Cut(after, "\n")

	n, err := strconv.Atoi(value)
	if err != nil {
		t.Fatalf("peald_connects_total: %v", err)
	}

	return n
}

// waitForTopics waits until the streams subscribe to these topics and to no others.
func (d *shopDaemon) waitForTopics(t *testing.T, want ...string) {
	t.Helper()

	control := d.Control(t)

	var topics []string

	if !testbed.Eventually(patience, func() bool {
		reply, err := control.ListTopics(t.Context(), &pealv1.ListTopicsRequest{})
		if err != nil {
			t.Fatal(err)
		}

		topics = nil
		for _, topic := range reply.GetTopics() {
			topics = append(topics, topic.GetTopic())
		}

		return slices.Equal(topics, want)
	}) {
		t.Fatalf("the streams subscribe to %q, want %q", topics, want)
	}
}

// shopPage is a tab with a page of the examples.
type shopPage struct{ *browsertest.Tab }

// waitForState waits until the page shows the state of its stream; an empty one means
// that it shows none.
func (p shopPage) waitForState(t *testing.T, state string) {
	t.Helper()
	p.WaitFor(t, `(document.querySelector("#state")?.value ?? "") === `+strconv.Quote(state))
}

// waitForLines waits until the page shows lines, in this order and no others.
func (p shopPage) waitForLines(t *testing.T, lines ...string) {
	t.Helper()

	want, err := json.Marshal(lines)
	if err != nil {
		t.Fatal(err)
	}

	p.WaitFor(t, `JSON.stringify([...document.querySelectorAll("li")].reverse().map((item) => item.textContent)) === JSON.stringify(`+string(want)+`)`)
}
