package daemon_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/peald/peald/daemon"
)

func TestDemo(t *testing.T) {
	d := startWith(t, daemon.Options{Demo: true}, nil)
	web := client(t)
	if page := get(t, web, "http://"+d.SSE+"/"); !strings.HasPrefix(page, "200 ") || !strings.Contains(page, "http://"+d.REST) {
		t.Errorf("the page is %s", page)
	}

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+d.SSE+"/demo/token", strings.NewReader(`{"user":"alice"}`))
	if err != nil {
		t.Fatal(err)
	}

	req.Header.Set("Content-Type", "application/json")
	resp, err := web.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	token, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("taking a name: %s, %v", resp.Status, err)
	}

	lines := stream(t, web, "http://"+d.SSE+"/events?access_token="+string(token))
	if users := get(t, web, "http://"+d.REST+"/v1/users"); !strings.Contains(users, `"alice"`) {
		t.Errorf("users are %s", users)
	}

	awaitLine(t, lines, "event: broadcast")
	awaitLine(t, lines, "data: ")
	d.end()
	if err := d.awaitEnd(t); err != nil {
		t.Errorf("Run returned %v", err)
	}
}

func TestDemoIsOffByDefault(t *testing.T) {
	d := start(t, nil)
	if page := get(t, client(t), "http://"+d.SSE+"/"); !strings.HasPrefix(page, "404 ") {
		t.Errorf("the page is %s", page)
	}
}

func TestConflictsWithTheDemo(t *testing.T) {
	for key, change := range map[string]func(*daemon.Config){
		"sse.path":   func(c *daemon.Config) { c.SSE.Path = "/" },
		"sse.client": func(c *daemon.Config) { c.SSE.Client = false },
		"sse.addr": func(c *daemon.Config) {
			c.SSE.Addr = ":0"
			c.Auth.JWT.HMACSecret = strings.Repeat("secret", 8)
		},
	} {
		cfg := onFreePorts()
		change(&cfg)
		err := daemon.Run(t.Context(), cfg, daemon.Options{Demo: true})
		if setting, ok := errors.AsType[*daemon.SettingError](err); !ok || setting.Key != key {
			t.Errorf("error is %v, want one about %s", err, key)
		}
	}
}
