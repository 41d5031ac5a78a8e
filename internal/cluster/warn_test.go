package cluster_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/internal/cluster"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// with are the lines that hold all parts.
func (l *lines) with(parts ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			found = append(found, line)
		}
	}
	return found
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// TestANodeOfAnotherSecretIsNamed starts two nodes that don't know each other's
// secret: each says so once, though they try every second, and they are no
// cluster.
func TestANodeOfAnotherSecretIsNamed(t *testing.T) {
	t.Parallel()
	for name, secret := range map[string]string{"another": "another", "none": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testAnotherSecret(t, secret)
		})
	}
}

func testAnotherSecret(t *testing.T, secret string) {
	t.Helper()
	cfgs := configs(t, 2)
	logs := []*lines{new(lines), new(lines)}
	cfgs[1].Embedded.Secret = secret
	var members []*member
	for i, cfg := range cfgs {
		cfg.Logger = logs[i].logger()
		members = append(members, start(t, cfg))
	}
	for i, log := range logs {
		other := cfgs[1-i].Embedded.Addr
		eventually(t, func() bool {
			return len(log.with("level=WARN", "refuses this one", "cluster.secret", other)) > 0 && len(log.with("level=WARN", "another node is refused", "127.0.0.1")) > 0 &&
				len(log.with("level=DEBUG", "Authorization Violation")) > 1 // they have tried again
		}, func() string { return "nothing is said of the secret in:\n" + log.text.String() })
	}
	for _, log := range logs {
		if said := log.with("level=WARN", "secret"); len(said) != 2 {
			t.Errorf("it is said %d times:\n%s", len(said), strings.Join(said, ""))
		}
	}
	for i, m := range members {
		if serving, _ := m.Serving(); serving || m.NumRoutes() > 0 {
			t.Errorf("node %d has joined the other: it has %d connections to nodes, serving %t", i, m.NumRoutes(), serving)
		}
	}
}

func TestTroublesAreToldOnce(t *testing.T) {
	t.Parallel()
	log := new(lines)
	n := cluster.Idle(cluster.Config{Logger: log.logger()})
	three := []cluster.Member{{Name: "a", Leader: true}, {Name: "b"}, {Name: "c"}}
	two := []cluster.Member{{Name: "a", Leader: true}, {Name: "b"}, {Name: "c", Silent: time.Hour}}
	now, at := time.Now(), time.Time{}
	told := func(lines int, parts ...string) {
		t.Helper()
		if said := log.with(parts...); len(said) != lines {
			t.Errorf("%q is said %d times, want %d; the log is\n%s", parts, len(said), lines, log.text.String())
		}
	}
	pass := func(d time.Duration, trouble string, replicas int, members []cluster.Member) {
		t.Helper()
		for range int(d / time.Second) {
			if now = now.Add(time.Second); trouble == "" {
				at = now
			}
			n.Found(at, now, trouble, replicas, members, "a", "b", "c")
		}
	}
	lost, back := []string{"level=WARN", "nothing can be published", "no leader of it"}, []string{"level=INFO", "takes messages again"}
	for episode := 1; episode <= 2; episode++ {
		pass(time.Minute, "", 3, three)
		told(episode-1, lost...)
		pass(8*time.Second, "no leader of it", 3, three) // as in any election
		told(episode-1, lost...)
		pass(time.Minute, "no leader of it", 3, three)
		told(episode, lost...)
		told(episode-1, back...)
		pass(time.Second, "", 3, three)
		told(episode, back...)
	}
	thin, full := []string{"level=WARN", "fewer replicas", "replicas=2 want=3", `on="a, b, c"`}, []string{"level=INFO", "has its replicas again"}
	for episode := 1; episode <= 2; episode++ {
		pass(30*time.Second, "", 3, two) // as in a restart
		told(episode-1, thin...)
		pass(time.Minute, "", 3, two)
		told(episode, thin...)
		pass(time.Second, "", 3, three)
		told(episode, full...)
	}
	pass(time.Minute, "", 1, three[:1])
	told(1, "level=WARN", "replicas=1 want=3", fmt.Sprintf("nodes=%q", "a, b, c"))
}
