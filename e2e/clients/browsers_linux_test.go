package clients_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/peald/peald/internal/browsertest"
)

func TestMain(m *testing.M) { os.Exit(browsertest.Main(m, browsertest.WholeChromium()...)) }

// browser is a row of the table for a browser.
type browser struct {
	client

	kind    browsertest.Kind
	program string
}

// browsers returns the installed browsers. If CI is true, it returns all.
func browsers(t *testing.T) (found []browser) {
	t.Helper()

	version := func(program string) []string {
		return []string{"sh", "-c", program + ` --version 2>/dev/null | grep -o '[0-9][0-9.]*[0-9]' | head -1`}
	}

	// WebKitGTK's programs can't print their version without a display.
	webkit := []string{"sh", "-c", "dpkg-query -W -f '${Version}' webkit2gtk-driver | cut -d - -f 1"}

	for _, b := range []browser{
		{client{name: "chromium", label: "Chromium", version: version("chromium")}, browsertest.Chromium, "chromium"},
		{client{name: "firefox", label: "Firefox ESR", version: version("firefox-esr")}, browsertest.Firefox, "firefox-esr"},
		{client{name: "webkit", label: "WebKitGTK", version: webkit}, browsertest.WebKit, "WebKitWebDriver"},
	} {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), b.name) {
			continue
		}

		if _, err := exec.LookPath(b.program); err != nil && os.Getenv("CI") != "true" {
			t.Logf("%s is not installed: skipping the row for %s", b.program, b.label)

			continue
		}

		found = append(found, b)
	}

	return found
}

// visit opens the streams for plain use in one browser and the streams for
// recommended use in another, because WebKit opens at most 17 connections.
func (b browser) visit(t *testing.T, streams []*held) {
	t.Helper()

	for _, advised := range []bool{false, true} {
		var some []*held

		for _, h := range streams {
			if h.advised == advised {
				some = append(some, h)
			}
		}

		if len(some) == 0 {
			continue
		}

		browsertest.Start(t, b.kind).Open(t, servePage(t, some, advised))
	}
}

// servePage serves a page and returns its address. The page opens streams with
// the same functions as the Node driver, and posts its observations.
func servePage(t *testing.T, streams []*held, advised bool) string {
	t.Helper()

	text, err := os.ReadFile(filepath.Join("testdata", "node", "eventsource.mjs"))
	if err != nil {
		t.Fatal(err)
	}

	functions := regexp.MustCompile(`(?s)function plain.*// docs: end`).FindString(string(text))
	byName, urls := map[string]*stream{}, map[string]string{}

	for _, h := range streams {
		byName[h.name], urls[h.name] = h.stream, h.url()
	}

	opened, err := json.Marshal(urls)
	if err != nil {
		t.Fatal(err)
	}

	use := "plain"
	if advised {
		use = "listen"
	}

	page := `<!doctype html><meta charset="utf-8"><title>` + use + `</title><script>
` + functions + `
let posted = Promise.resolve();
function post(line) { posted = posted.then(() => fetch("/report", { method: "POST", body: JSON.stringify(line) })); }
for (const [stream, url] of Object.entries(` + string(opened) + `)) {
	` + use + `(url,
		({ type, lastEventId, data }) => post({ stream, type, id: lastEventId, data }),
		(why) => post({ stream, ended: String(why) }));
}
</script>`

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			line, _ := io.ReadAll(r.Body)
			report(byName, line)

			return
		}

		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, page)
	}))
	t.Cleanup(server.Close)

	return server.URL
}
