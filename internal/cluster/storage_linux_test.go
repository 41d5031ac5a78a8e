package cluster_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/cluster"
	"github.com/peald/peald/internal/testbed"
)

// fill fills a small disk, until free is called.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	file, err := os.Create(path)
	must(t, err)
	for block := make([]byte, 4096); err == nil; {
		_, err = file.Write(block)
	}
	must(t, file.Close())
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill a disk: %v", err)
	}
	return func() { must(t, os.Remove(path)) }
}

// acknowledged holds the messages that a node has acknowledged.
type acknowledged struct{ ids, data []string }

// publish publishes a message, and adds it if it is acknowledged.
func (a *acknowledged) publish(t *testing.T, m *member, data string) error {
	t.Helper()
	r, err := m.Publish(t.Context(), toAll(data))
	if err == nil {
		a.ids, a.data = append(a.ids, r.ID), append(a.data, data)
	}
	return err
}

// distinct checks that no id was used twice.
func (a *acknowledged) distinct(t *testing.T) {
	t.Helper()
	seen := make(map[string]bool)
	for _, id := range a.ids {
		if seen[id] {
			t.Errorf("the id %s was used twice", id)
		}
		seen[id] = true
	}
}

// full waits until a node isn't serving because its disk is full, and returns the
// reason.
func (m *member) full(t *testing.T, dir string) (reason string) {
	t.Helper()
	want := "the disk of its event log is full: " + dir
	eventually(t, func() bool {
		var serving bool
		serving, reason = m.Serving()
		return !serving && strings.Contains(reason, want)
	}, func() string { return fmt.Sprintf("the reason is %q, want %q", reason, want) })
	return reason
}

// fillUp publishes until the disk of a standalone node is full, and checks that
// further messages are rejected with that reason.
func (a *acknowledged) fillUp(t *testing.T, m *member, dir string) {
	t.Helper()
	var err error
	for i := 0; err == nil; i++ {
		err = a.publish(t, m, fmt.Sprint(len(a.data), strings.Repeat("x", 100_000)))
	}
	reason := m.full(t, dir)
	if late := "within 10s"; strings.Contains(err.Error(), late) || !strings.Contains(err.Error(), reason) {
		t.Errorf("the message that fills the disk: error %q, want %q", err, reason)
	}
	for range 3 {
		_, err := m.Publish(t.Context(), toAll("too much"))
		if unavailable, ok := errors.AsType[*broker.UnavailableError](err); !ok || !strings.Contains(unavailable.Reason, reason) {
			t.Errorf("a later message: error %v, want UNAVAILABLE and %q", err, reason)
		}
	}
}

// TestFullDisk fills the disk of a standalone node, twice. The node must report that,
// reject messages, keep its streams open, and publish again once there is space,
// without a restart.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	cfg, log := configs(t, 1)[0], new(testbed.Log)
	dir := testbed.SmallDisk(t, "1m")
	cfg.Embedded.Dir, cfg.Logger = dir, loggingTo(log)
	m := start(t, cfg)
	serving(t, m)
	c := m.connect(t, broker.Subscription{})
	var all acknowledged
	for round, size := range []string{"2m", "64m"} {
		all.fillUp(t, m, dir)
		m.connect(t, broker.Subscription{LastEventID: all.ids[0]}).gets(t, all.data[1:]...)
		if lines := log.With("level=ERROR"); len(lines) != round+1 || !strings.Contains(lines[round], "event log cannot be written") {
			t.Errorf("want one error per round, got\n%s", strings.Join(lines, ""))
		}
		testbed.ResizeDisk(t, dir, size)
		serving(t, m)
		must(t, all.publish(t, m, "there is space"))
		if lines := log.With("level=INFO", "event log can be written again"); len(lines) != round+1 {
			t.Errorf("want one recovery per round, got\n%s", strings.Join(lines, ""))
		}
	}

	c.gets(t, all.data...)
	m.kill(t)

	m = start(t, cfg)
	serving(t, m)
	must(t, all.publish(t, m, "restarted"))
	m.connect(t, broker.Subscription{LastEventID: all.ids[0]}).gets(t, all.data[1:]...)
	all.distinct(t)
}

// TestStartOnFullDisk starts a standalone node whose disk is full, after it was shut
// down or killed. It must wait for space, and then have its whole event log.
func TestStartOnFullDisk(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, m *member){
		"shut down": func(t *testing.T, m *member) { t.Helper(); m.end(t) },
		"killed":    func(t *testing.T, m *member) { t.Helper(); m.kill(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := configs(t, 1)[0]
			dir := testbed.SmallDisk(t, "4m")
			cfg.Embedded.Dir = dir
			m := start(t, cfg)
			serving(t, m)
			var all acknowledged
			for i := range 5 {
				must(t, all.publish(t, m, fmt.Sprint(i)))
			}
			free := fill(t, dir)
			end(t, m)

			m = start(t, cfg)
			m.full(t, dir)
			if _, err := m.Publish(t.Context(), toAll("too early")); err == nil {
				t.Error("a message is accepted on a full disk")
			}
			free()
			serving(t, m)
			must(t, all.publish(t, m, "there is space"))
			m.connect(t, broker.Subscription{LastEventID: all.ids[0]}).gets(t, all.data[1:]...)
			all.distinct(t)
		})
	}
}

// TestUnwritableDisk starts a node on a read-only disk, and on a full one that has no
// event log yet. The node must fail to start with one line that names the directory.
func TestUnwritableDisk(t *testing.T) {
	t.Parallel()
	fails := func(t *testing.T, cfg cluster.Config) {
		t.Helper()
		b := broker.New(brokerConfig())
		defer b.Close()
		n, err := cluster.Start(cfg, b)
		if err == nil {
			n.Close()
			t.Fatal("the node starts")
		}
		if !strings.Contains(err.Error(), cfg.Embedded.Dir) || strings.Contains(err.Error(), "\n") {
			t.Errorf("the node fails with %q, want one line that names %s", err, cfg.Embedded.Dir)
		}
	}

	t.Run("read-only", func(t *testing.T) {
		t.Parallel()
		cfg := configs(t, 1)[0]
		cfg.Embedded.Dir = testbed.SmallDisk(t, "4m")
		m := start(t, cfg)
		serving(t, m)
		m.publish(t, toAll("one"))
		m.end(t)
		must(t, syscall.Mount("tmpfs", cfg.Embedded.Dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		fails(t, cfg)
	})

	t.Run("full", func(t *testing.T) {
		t.Parallel()
		cfg := configs(t, 1)[0]
		cfg.Embedded.Dir = testbed.SmallDisk(t, "1m")
		fill(t, cfg.Embedded.Dir)
		fails(t, cfg)
	})
}

// TestPositionNotRecorded makes a standalone node fail to record its position in
// the event log. The node must accept nothing until it can.
func TestPositionNotRecorded(t *testing.T) {
	t.Parallel()
	cfg, log := configs(t, 1)[0], new(testbed.Log)
	cfg.Logger = loggingTo(log)
	m := start(t, cfg)
	serving(t, m)
	var all acknowledged
	must(t, all.publish(t, m, "one"))
	m.CloseMark(t)
	two := toAll("two")
	two.IdempotencyKey = "two"
	_, err := m.Publish(t.Context(), two) // fails if the failed write is reported before the acknowledgement arrives
	eventually(t, func() bool { return len(log.With("event log can be written again")) > 0 }, func() string {
		return "the position is not recorded:\n" + log.String()
	})
	if err != nil && !strings.Contains(err.Error(), "recording the position in the event log") {
		t.Errorf("the message fails with %v", err)
	}
	r, err := m.Publish(t.Context(), two) // the same event, unless the message was not published
	must(t, err)
	all.ids, all.data = append(all.ids, r.ID), append(all.data, "two")
	if lines := log.With("level=ERROR"); len(lines) != 1 || !strings.Contains(lines[0], "recording the position in the event log") {
		t.Errorf("want one error, got\n%s", strings.Join(lines, ""))
	}
	m.kill(t)

	m = start(t, cfg)
	serving(t, m)
	must(t, all.publish(t, m, "three"))
	m.connect(t, broker.Subscription{LastEventID: all.ids[0]}).gets(t, all.data[1:]...)
	all.distinct(t)
}

// TestJetStreamIsRestarted stops JetStream on a standalone node, as the server does
// after some errors.
func TestJetStreamIsRestarted(t *testing.T) {
	t.Parallel()
	cfg, log := configs(t, 1)[0], new(testbed.Log)
	cfg.Logger = loggingTo(log)
	m := start(t, cfg)
	serving(t, m)
	c := m.connect(t, broker.Subscription{})
	m.publish(t, toAll("one"))
	m.StopJetStream(t)
	eventually(t, func() bool { return len(log.With("event log can be written again")) > 0 }, func() string {
		return "JetStream is not restarted:\n" + log.String()
	})
	m.publish(t, toAll("two"))
	c.gets(t, "one", "two")
	if lines := log.With("level=ERROR"); len(lines) != 1 || !strings.Contains(lines[0], `cause="JetStream has stopped"`) {
		t.Errorf("want one error, got\n%s", strings.Join(lines, ""))
	}
}

// TestExpiryOnFullDisk fills a disk with nothing but the event log. The node must
// recover when entries expire.
func TestExpiryOnFullDisk(t *testing.T) {
	t.Parallel()
	cfg := configs(t, 1)[0]
	cfg.MaxAge, cfg.Embedded.Dir = 5*time.Second, testbed.SmallDisk(t, "1m")
	m := start(t, cfg)
	serving(t, m)
	var all acknowledged
	large := strings.Repeat("x", 100_000)
	for err := error(nil); err == nil; {
		err = all.publish(t, m, large)
	}
	eventually(t, func() bool { return all.publish(t, m, large) == nil }, func() string {
		_, reason := m.Serving()
		return "nothing can be published: " + reason
	})
	all.distinct(t)
}
