package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/peald/peald/internal/browsertest"
)

const formPage = `<!doctype html><meta charset="utf-8"><title>A form</title>
<p id="padding" style="height: 3000px"></p>
<form id="form"><input id="name" value="old"><button>Send</button></form>
<pre id="sent"></pre>
<script>
	document.getElementById("form").addEventListener("submit", (event) => {
		event.preventDefault();
		document.getElementById("sent").textContent += document.getElementById("name").value + "|";
	});
</script>`

// serveForm returns the URL of a page whose policy forbids eval, as the policy of
// the daemon's pages does.
func serveForm(t *testing.T, page string) string {
	t.Helper()

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Security-Policy", "default-src 'self' 'unsafe-inline'; require-trusted-types-for 'script'")
		fmt.Fprint(w, page)
	}))
	t.Cleanup(server.Close)

	return server.URL
}

// TestBrowserDriver tests internal/browsertest, with one browser of each kind, because
// starting them takes most of the time.
func TestBrowserDriver(t *testing.T) {
	t.Parallel()
	browsertest.Each(t, func(t *testing.T, b *browsertest.Browser) {
		t.Run("input", func(t *testing.T) { testBrowserInput(t, b) })
		t.Run("input without focus", func(t *testing.T) { testBrowserInputWithoutFocus(t, b) })
		t.Run("values", func(t *testing.T) { testBrowserValues(t, b) })
		t.Run("certificates", func(t *testing.T) { testBrowserCertificates(t, b) })
		t.Run("tabs", func(t *testing.T) { testBrowserTabs(t, b) })
	})
}

func testBrowserInput(t *testing.T, b *browsertest.Browser) {
	t.Helper()

	tab := b.Open(t, serveForm(t, formPage))

	tab.Fill(t, "#name", "Zoë <O'Neil> & ☀/?")
	tab.Click(t, "button")
	tab.Fill(t, "#name", "Jürgen")
	tab.Press(t, browsertest.KeyEnter)
	tab.WaitFor(t, `document.getElementById("sent").textContent === "Zoë <O'Neil> & ☀/?|Jürgen|"`)

	tab.Press(t, browsertest.KeyTab)
	tab.WaitFor(t, `document.activeElement.tagName === "BUTTON"`)
}

// testBrowserInputWithoutFocus presses keys in a window while another one, which was
// opened later, has the focus.
func testBrowserInputWithoutFocus(t *testing.T, b *browsertest.Browser) {
	t.Helper()

	tab := b.Open(t, serveForm(t, formPage))
	tab.Fill(t, "#name", "Zoë")
	tab.Press(t, browsertest.KeyTab)
	tab.WaitFor(t, `document.activeElement.tagName === "BUTTON"`)

	later := b.Open(t, serveForm(t, formPage))
	later.Fill(t, "#name", "Jürgen")

	tab.Press(t, browsertest.KeyEnter)
	tab.WaitFor(t, `document.getElementById("sent").textContent === "Zoë|"`)
	later.Press(t, browsertest.KeyEnter)
	later.WaitFor(t, `document.getElementById("sent").textContent === "Jürgen|"`)
}

func testBrowserValues(t *testing.T, b *browsertest.Browser) {
	t.Helper()

	tab := b.Open(t, serveForm(t, `<body>`))

	var got struct{ Text string }

	tab.Eval(t, `({ text: "世界 🌍\0" })`, &got)

	if want := "世界 🌍\x00"; got.Text != want {
		t.Errorf("got %q, want %q", got.Text, want)
	}

	var sum int

	tab.Await(t, `new Promise((resolve) => setTimeout(() => resolve(3 + 4), 10))`, &sum)

	if sum != 7 {
		t.Errorf("got %d, want 7", sum)
	}

	var visible string

	tab.Eval(t, `document.visibilityState`, &visible)

	if visible != "visible" {
		t.Errorf("visibilityState is %s", visible)
	}
}

func testBrowserTabs(t *testing.T, b *browsertest.Browser) {
	t.Helper()

	address := serveForm(t, `<body>`)
	one, other := b.Open(t, address+"/one"), b.Open(t, address+"/other")

	one.Eval(t, `(document.cookie = "shared=yes", localStorage.setItem("shared", "yes"))`, nil)
	other.WaitFor(t, `document.cookie === "shared=yes" && localStorage.getItem("shared") === "yes"`)
	one.WaitFor(t, `location.pathname === "/one"`)

	one.Reload(t)
	one.WaitFor(t, `document.cookie === "shared=yes"`)

	for _, width := range []int{1280, 600} {
		one.Resize(t, width, 800)
		one.WaitFor(t, fmt.Sprintf(`innerWidth === %d`, width))
	}

	// Another browser of the same kind has its own storage.
	stranger := browsertest.Start(t, b.Kind).Open(t, address)
	stranger.WaitFor(t, `document.cookie === "" && localStorage.getItem("shared") === null`)

	other.Close(t)
	one.WaitFor(t, `location.pathname === "/one"`)
}

func testBrowserCertificates(t *testing.T, b *browsertest.Browser) {
	t.Helper()

	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "over TLS")
	}))
	t.Cleanup(server.Close)

	b.Open(t, server.URL).WaitFor(t, `document.body.innerText === "over TLS"`)
}
