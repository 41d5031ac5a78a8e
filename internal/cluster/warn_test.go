package cluster_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/cluster"
	"github.com/peald/peald/internal/pealdtest"
)

// loggingTo logs everything to log.
func loggingTo(log *pealdtest.Log) *slog.Logger {
	return slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
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
	logs := []*pealdtest.Log{new(pealdtest.Log), new(pealdtest.Log)}
	cfgs[1].Embedded.Secret = secret
	var members []*member
	for i, cfg := range cfgs {
		cfg.Logger = loggingTo(logs[i])
		members = append(members, start(t, cfg))
	}
	for i, log := range logs {
		other := cfgs[1-i].Embedded.Addr
		eventually(t, func() bool {
			return len(log.With("level=WARN", "refuses this one", "cluster.secret", other)) > 0 && len(log.With("level=WARN", "another node is refused", "127.0.0.1")) > 0 &&
				len(log.With("level=DEBUG", "Authorization Violation")) > 1 // they have tried again
		}, func() string { return "nothing is said of the secret in:\n" + log.String() })
	}
	for _, log := range logs {
		if said := log.With("level=WARN", "secret"); len(said) != 2 {
			t.Errorf("it is said %d times:\n%s", len(said), strings.Join(said, ""))
		}
	}
	for i, m := range members {
		var reason string
		eventually(t, func() bool { _, reason = m.Serving(); return strings.Contains(reason, "cluster.secret") }, func() string {
			return "the secret is not why the node doesn't serve: " + reason
		})
		if serving, _ := m.Serving(); serving || m.NumRoutes() > 0 {
			t.Errorf("node %d has joined the other: it has %d connections to nodes, serving %t", i, m.NumRoutes(), serving)
		}
	}
}

func TestTroublesAreToldOnce(t *testing.T) {
	t.Parallel()
	log := new(pealdtest.Log)
	n := cluster.Idle(cluster.Config{Logger: loggingTo(log)})
	three := []cluster.Member{{Name: "a", Leader: true}, {Name: "b"}, {Name: "c"}}
	two := []cluster.Member{{Name: "a", Leader: true}, {Name: "b"}, {Name: "c", Silent: time.Hour}}
	now, at := time.Now(), time.Time{}
	says := func(lines int, parts ...string) {
		t.Helper()
		if said := log.With(parts...); len(said) != lines {
			t.Errorf("%q is said %d times, want %d; the log is\n%s", parts, len(said), lines, log.String())
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
		says(episode-1, lost...)
		pass(8*time.Second, "no leader of it", 3, three) // as in any election
		says(episode-1, lost...)
		pass(time.Minute, "no leader of it", 3, three)
		says(episode, lost...)
		says(episode-1, back...)
		pass(time.Second, "", 3, three)
		says(episode, back...)
	}
	thin, full := []string{"level=WARN", "fewer replicas", "replicas=2 want=3", `on="a, b, c"`}, []string{"level=INFO", "has its replicas again"}
	for episode := 1; episode <= 2; episode++ {
		pass(30*time.Second, "", 3, two) // as in a restart
		says(episode-1, thin...)
		pass(time.Minute, "", 3, two)
		says(episode, thin...)
		pass(time.Second, "", 3, three)
		says(episode, full...)
	}
	pass(time.Minute, "", 1, three[:1])
	says(1, "level=WARN", "replicas=1 want=3", fmt.Sprintf("nodes=%q", "a, b, c"))
}
