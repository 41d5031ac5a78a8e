package e2e_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
)

var update = flag.Bool("update", false, "retake the pictures in docs/img, which takes two minutes")

// TestConsolePictures takes the pictures for the documents: pictures of a busy
// daemon's console, and of the demo page.
func TestConsolePictures(t *testing.T) {
	if !*update {
		t.Skip("pictures are taken with -update (make pictures)")
	}

	setFonts(t)

	d := pealdtest.StartDemo(t)
	browser := browsertest.Start(t, browsertest.Chromium)
	page := openConsole(t, browser, d)
	stop := make(chan struct{})

	var busy sync.WaitGroup

	busy.Go(func() { keepShopBusy(t, d, stop) })
	t.Cleanup(busy.Wait)
	t.Cleanup(func() { close(stop) })

	page.Click(t, "#span [value='60']")
	openAndCloseStreams(t, d)

	page.Fill(t, "#publish-data", `{"title": "Back in stock", "text": "Brass hand bell"}`)
	page.Click(t, "#publish-form [type=submit]")
	page.waitUntil(t, `all("#publish-result")[0].startsWith("Sent to ")`)

	page.takePictures(t, "console", 1280, 0)
	page.takePictures(t, "console-narrow", 390, 0)

	demo := demoPage{browser.Open(t, "http://"+d.SSE+"/")}
	demo.pick(t, "quiet-otter-42")
	demo.waitUntil(t, `all("#count-individual")[0] > 0 && all("#count-broadcast")[0] > 12 && all("#count-topic")[0] > 2`)
	demo.Eval(t, `document.activeElement.blur()`, nil)
	demo.takePictures(t, "demo", 1280, 1120)
}

// takePictures writes a light and a dark picture of a page to docs/img. A height
// of 0 means the whole page.
func (p demoPage) takePictures(t *testing.T, name string, width, height int64) {
	t.Helper()

	for _, scheme := range []string{"light", "dark"} {
		_, err := chromedp.Call(p.Chromium(), emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: scheme},
				{Name: "prefers-reduced-motion", Value: "reduce"},
			},
		})
		if err != nil {
			t.Fatal(err)
		}

		p.setViewport(t, width, 900)

		whole := height
		if whole == 0 {
			p.Eval(t, `document.documentElement.scrollHeight`, &whole)
		}

		p.setViewport(t, width, whole)

		picture, err := chromedp.Run(p.Chromium(), chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(filepath.Join("../docs/img", name+"-"+scheme+".png"), picture, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// setViewport resizes the page, and returns once it is drawn.
func (p demoPage) setViewport(t *testing.T, width, height int64) {
	t.Helper()

	if err := chromedp.Do(p.Chromium(), chromedp.EmulateViewport(width, height, chromedp.EmulateScale(1.5))); err != nil {
		t.Fatal(err)
	}

	p.Await(t, `new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))`, nil)
}

// setFonts replaces Debian's default fonts in the browser with better ones, if they
// are installed: the packages fonts-inter and fonts-jetbrains-mono.
func setFonts(t *testing.T) {
	t.Helper()

	file := filepath.Join(t.TempDir(), "fonts.conf")
	const fonts = `<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>
<include>/etc/fonts/fonts.conf</include>
<match><test name="family"><string>DejaVu Sans</string></test><edit name="family" mode="prepend" binding="strong"><string>Inter</string></edit></match>
<match><test name="family"><string>DejaVu Sans Mono</string></test><edit name="family" mode="prepend" binding="strong"><string>JetBrains Mono</string></edit></match>
</fontconfig>`

	if err := os.WriteFile(file, []byte(fonts), 0o600); err != nil {
		t.Fatal(err)
	}

	t.Setenv("FONTCONFIG_FILE", file)
}

// openAndCloseStreams opens streams for many users, most of them immediately and
// the others over the next minute, during which it also disconnects some.
func openAndCloseStreams(t *testing.T, d *pealdtest.Daemon) {
	t.Helper()

	names := []string{"alice", "amir", "anouk", "björn", "chiara", "dmitri", "elif", "emeka", "fatima", "greta", "hiro", "ines", "jorge", "kasia", "lena", "mara", "nadia", "olu", "priya", "quentin", "rosa", "sven", "tomás", "uma", "vera", "wei", "ximena", "yusuf", "zoë"}
	topics := [][]string{{"news"}, {"orders.*"}, {"prices.eur", "news"}, {"prices.*"}, {"stock.>"}, {"chat.lobby"}, {"chat.lobby", "news"}}

	for i, name := range names {
		for n := range 1 + i%3 {
			listen(t, d, name, topics[(i+n)%len(topics)]...)
		}
	}

	for range 40 {
		listen(t, d, "")
	}

	random := rand.New(rand.NewPCG(3, 4))
	again := time.NewTicker(500 * time.Millisecond)

	defer again.Stop()

	for second := range 140 {
		<-again.C

		switch {
		case second%23 == 22: // as if a train entered a tunnel
			for range 9 {
				name := names[random.IntN(len(names))]
				if _, err := d.Control(t).Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: name}); err != nil {
					t.Fatal(err)
				}
			}
		case random.IntN(3) > 0:
			listen(t, d, names[random.IntN(len(names))], topics[random.IntN(len(topics))]...)
		default:
			listen(t, d, "")
		}
	}
}

// keepShopBusy publishes like a shop's backends until stop is closed.
func keepShopBusy(t *testing.T, d *pealdtest.Daemon, stop <-chan struct{}) {
	t.Helper()

	control := d.Control(t)
	random := rand.New(rand.NewPCG(1, 2))

	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(20+random.IntN(120)) * time.Millisecond):
		}

		var err error

		switch random.IntN(6) {
		case 0:
			_, err = control.Publish(t.Context(), &pealv1.PublishRequest{Topic: fmt.Sprint("orders.", 400+n), Data: fmt.Sprintf(`{"order": %d, "state": "paid"}`, 400+n)})
		case 1:
			_, err = control.Publish(t.Context(), &pealv1.PublishRequest{Topic: "chat.lobby", Event: "chat", Data: "Does the temple gong ship to Ōsaka?"})
		case 2:
			_, err = control.Publish(t.Context(), &pealv1.PublishRequest{Topic: "news", Data: "Casting at 11:00, tuning at 15:00"})
		default:
			_, err = control.Publish(t.Context(), &pealv1.PublishRequest{Topic: "prices.eur", Event: "price", Data: fmt.Sprintf(`{"item": "Sleigh bells", "eur": %d.%02d}`, 30+random.IntN(20), random.IntN(100))})
		}

		if err != nil && t.Context().Err() == nil {
			t.Errorf("publishing: %v", err)

			return
		}
	}
}
