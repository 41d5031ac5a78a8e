package cluster_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/cluster"
	"github.com/peald/peald/internal/testbed"
)

// loggingTo returns a logger that logs everything to log.
func loggingTo(log *testbed.Log) *slog.Logger {
	return slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// TestDifferentSecrets starts two nodes with different secrets. They must not form a
// cluster, and each must log the reason only once, although they retry every
// second.
func TestDifferentSecrets(t *testing.T) {
	t.Parallel()
	for name, secret := range map[string]string{"another": "another", "none": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testDifferentSecrets(t, secret)
		})
	}
}

func testDifferentSecrets(t *testing.T, secret string) {
	t.Helper()
	cfgs := configs(t, 2)
	logs := []*testbed.Log{new(testbed.Log), new(testbed.Log)}
	cfgs[1].Embedded.Secret = secret
	var members []*member
	for i, cfg := range cfgs {
		cfg.Logger = loggingTo(logs[i])
		members = append(members, start(t, cfg))
	}
	for i, log := range logs {
		other := cfgs[1-i].Embedded.Addr
		eventually(t, func() bool {
			return len(log.With("level=WARN", "rejected by another node", "cluster.secret", other)) > 0 && len(log.With("level=WARN", "rejected another node", "127.0.0.1")) > 0 &&
				len(log.With("level=DEBUG", "Authorization Violation")) > 1 // they have retried
		}, func() string { return "the secret is not logged:\n" + log.String() })
	}

	for _, log := range logs {
		if lines := log.With("level=WARN", "secret"); len(lines) != 2 {
			t.Errorf("%d warnings, want 2:\n%s", len(lines), strings.Join(lines, ""))
		}
	}
	for i, m := range members {
		var reason string
		eventually(t, func() bool { _, reason = m.Serving(); return strings.Contains(reason, "cluster.secret") }, func() string {
			return "the reason doesn't name the secret: " + reason
		})
		// A rejected connection counts until it is closed, and nodes retry every second.
		eventually(t, func() bool { return m.NumRoutes() == 0 }, func() string {
			return fmt.Sprintf("node %d has %d connections to other nodes, want none", i, m.NumRoutes())
		})
		if serving, _ := m.Serving(); serving {
			t.Errorf("node %d is serving", i)
		}
	}
}

func TestProblemsAreLoggedOnce(t *testing.T) {
	t.Parallel()
	log := new(testbed.Log)
	n := cluster.Idle(cluster.Config{Logger: loggingTo(log)})
	three := []cluster.Member{{Name: "a", Leader: true}, {Name: "b"}, {Name: "c"}}
	two := []cluster.Member{{Name: "a", Leader: true}, {Name: "b"}, {Name: "c", Silent: time.Hour}}
	now, at := time.Now(), time.Time{}
	logged := func(want int, parts ...string) {
		t.Helper()
		if lines := log.With(parts...); len(lines) != want {
			t.Errorf("%q is logged %d times, want %d; the log is\n%s", parts, len(lines), want, log.String())
		}
	}

	pass := func(d time.Duration, trouble string, replicas int, members []cluster.Member) {
		t.Helper()
		for range int(d / time.Second) {
			if now = now.Add(time.Second); trouble == "" {
				at = now
			}
			n.SetProbed(at, now, trouble, replicas, members, "a", "b", "c")
		}
	}

	lost, back := []string{"level=WARN", "event log has no quorum", "no leader"}, []string{"level=INFO", "event log has a quorum again"}
	for episode := 1; episode <= 2; episode++ {
		pass(time.Minute, "", 3, three)
		logged(episode-1, lost...)
		pass(8*time.Second, "no leader", 3, three) // as in any election
		logged(episode-1, lost...)
		pass(time.Minute, "no leader", 3, three)
		logged(episode, lost...)
		logged(episode-1, back...)
		pass(time.Second, "", 3, three)
		logged(episode, back...)
	}

	under, full := []string{"level=WARN", "event log under-replicated", "replicas=2 want=3", `on="a, b, c"`}, []string{"level=INFO", "event log fully replicated again"}
	for episode := 1; episode <= 2; episode++ {
		pass(30*time.Second, "", 3, two) // as in a restart
		logged(episode-1, under...)
		pass(time.Minute, "", 3, two)
		logged(episode, under...)
		pass(time.Second, "", 3, three)
		logged(episode, full...)
	}

	pass(time.Minute, "", 1, three[:1])
	logged(1, "level=WARN", "replicas=1 want=3", fmt.Sprintf("nodes=%q", "a, b, c"))
}

// TestRejectionOfRunningNode restarts two nodes of three with another secret while the
// third keeps running. It must name the rejection as the reason why it isn't serving.
func TestRejectionOfRunningNode(t *testing.T) {
	t.Parallel()
	members := startAll(t, 3)
	for i, m := range members[:2] {
		m.end(t)
		own := *m.cfg.Embedded
		own.Secret = "another"
		m.cfg.Embedded = &own
		members[i] = start(t, m.cfg)
	}
	serving(t, members[:2]...)
	var reason string
	eventually(t, func() bool {
		var isServing bool
		isServing, reason = members[2].Serving()
		return !isServing && strings.Contains(reason, "cluster.secret")
	}, func() string { return fmt.Sprintf("the reason is %q, want one that names cluster.secret", reason) })
}
