package e2e_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// bright is a condition: the page has a light background.
const bright = `((rgb) => rgb[0] + rgb[1] + rgb[2] > 384)(getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number))`

// testColours switches the theme, and checks the page and its charts.
func (p consolePage) testColours(t *testing.T) {
	t.Helper()
	p.Click(t, "#theme [value=light]")
	p.waitUntil(t, bright)
	p.Eval(t, `window.light = [...document.querySelectorAll(".plot canvas")].map((canvas) => canvas.toDataURL())`, nil)

	p.Click(t, "#theme [value=dark]")
	p.waitUntil(t, "!"+bright)
	p.waitUntil(t, `[...document.querySelectorAll(".plot canvas")].every((canvas, i) => canvas.toDataURL() !== window.light[i])`)

	p.Reload(t)
	p.waitUntil(t, "!"+bright+` && document.querySelector("#theme [value=dark]").checked`)
	p.Click(t, "#theme [value=auto]")
	p.waitUntil(t, bright)
}

// testSystemColours switches the system's theme.
func (p consolePage) testSystemColours(t *testing.T) {
	t.Helper()

	prefer := func(scheme string) {
		t.Helper()

		_, err := chromedp.Call(p.Chromium(), emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	prefer("dark")
	p.waitUntil(t, "!"+bright)
	p.Click(t, "#theme [value=light]")
	p.waitUntil(t, bright)
	p.Click(t, "#theme [value=auto]")
	p.waitUntil(t, "!"+bright)
	prefer("light")
	p.waitUntil(t, bright)
}

// testNames checks the accessibility tree for controls without names.
func (p consolePage) testNames(t *testing.T) {
	t.Helper()
	p.waitUntil(t, `all("#users tbody tr").length === 10`)

	tree, err := chromedp.Call(p.Chromium(), accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		t.Fatal(err)
	}

	count := map[string]int{}

	for _, node := range tree.Nodes {
		if node.Ignored || node.Role == nil {
			continue
		}

		role := strings.Trim(string(node.Role.Value), `"`)
		count[role]++

		named := node.Name != nil && strings.Trim(string(node.Name.Value), `" `) != ""
		if slices.Contains([]string{"button", "textbox", "searchbox", "combobox", "radio", "link", "image", "img", "table", "dialog", "group", "region"}, role) && !named {
			t.Errorf("role %s without a name: %v", role, node.Properties)
		}
	}

	for role, least := range map[string]int{"banner": 1, "main": 1, "button": 30, "radio": 9, "searchbox": 2, "table": 3, "region": 6, "heading": 7, "status": 3} {
		if count[role] < least {
			t.Errorf("%d elements with the role %s, want %d or more: %v", count[role], role, least, count)
		}
	}
}
