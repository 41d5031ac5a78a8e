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
	"github.com/peald/peald/internal/pealdtest"
)

// fill takes all the room that a small disk has left, until the function that it
// returns is called.
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

// acknowledged is what a node has acknowledged.
type acknowledged struct{ ids, data []string }

// publish publishes a message and remembers it.
func (a *acknowledged) publish(t *testing.T, m *member, data string) error {
	t.Helper()
	r, err := m.Publish(t.Context(), toAll(data))
	if err == nil {
		a.ids, a.data = append(a.ids, r.ID), append(a.data, data)
	}
	return err
}

// distinct checks that no id was given twice.
func (a *acknowledged) distinct(t *testing.T) {
	t.Helper()
	seen := make(map[string]bool)
	for _, id := range a.ids {
		if seen[id] {
			t.Errorf("the id %s was given twice", id)
		}
		seen[id] = true
	}
}

// full waits until a node says that its disk is full, and returns why it doesn't
// serve.
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

// fillUp publishes until the disk of a node alone is full, and checks that
// publishing fails with the reason then.
func (a *acknowledged) fillUp(t *testing.T, m *member, dir string) {
	t.Helper()
	var err error
	for i := 0; err == nil; i++ {
		err = a.publish(t, m, fmt.Sprint(len(a.data), strings.Repeat("x", 100_000)))
	}
	reason := m.full(t, dir)
	if late := "within 10s"; strings.Contains(err.Error(), late) || !strings.Contains(err.Error(), reason) {
		t.Errorf("the message that finds the disk full gets %q, want %q", err, reason)
	}
	for range 3 {
		_, err := m.Publish(t.Context(), toAll("too much"))
		if unavailable, ok := errors.AsType[*broker.UnavailableError](err); !ok || !strings.Contains(unavailable.Reason, reason) {
			t.Errorf("a message gets %v, want UNAVAILABLE and %q", err, reason)
		}
	}
}

// TestTheFullDiskOfANodeAlone fills the disk of a node alone, twice: it says so,
// rejects what is published, keeps its streams, and publishes again once there is
// room, without a restart.
func TestTheFullDiskOfANodeAlone(t *testing.T) {
	t.Parallel()
	cfg, log := configs(t, 1)[0], new(pealdtest.Log)
	dir := pealdtest.SmallDisk(t, "1m")
	cfg.Embedded.Dir, cfg.Logger = dir, loggingTo(log)
	m := start(t, cfg)
	serving(t, m)
	c := m.connect(t, broker.Subscription{})
	var all acknowledged
	for round, size := range []string{"2m", "64m"} {
		all.fillUp(t, m, dir)
		m.connect(t, broker.Subscription{LastEventID: all.ids[0]}).gets(t, all.data[1:]...)
		if said := log.With("level=ERROR"); len(said) != round+1 || !strings.Contains(said[round], "event log cannot be written") {
			t.Errorf("want one error for each time that the disk is full, got\n%s", strings.Join(said, ""))
		}
		pealdtest.ResizeDisk(t, dir, size)
		serving(t, m)
		must(t, all.publish(t, m, "there is room"))
		if said := log.With("level=INFO", "event log can be written again"); len(said) != round+1 {
			t.Errorf("want a line for each time that there is room again, got\n%s", strings.Join(said, ""))
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

// TestAStartOnAFullDisk starts a node alone whose disk is full, after it has ended
// in order and after it was killed: it waits for room, and has all of its log then.
func TestAStartOnAFullDisk(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, m *member){
		"ended":  func(t *testing.T, m *member) { t.Helper(); m.end(t) },
		"killed": func(t *testing.T, m *member) { t.Helper(); m.kill(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := configs(t, 1)[0]
			dir := pealdtest.SmallDisk(t, "4m")
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
				t.Error("a message is taken on a full disk")
			}
			free()
			serving(t, m)
			must(t, all.publish(t, m, "there is room"))
			m.connect(t, broker.Subscription{LastEventID: all.ids[0]}).gets(t, all.data[1:]...)
			all.distinct(t)
		})
	}
}

// TestADiskThatTakesNoWrites starts a node on a disk that can only be read, and on
// a full one that has no log yet: it doesn't start, with one line that names the
// directory.
func TestADiskThatTakesNoWrites(t *testing.T) {
	t.Parallel()
	refuses := func(t *testing.T, cfg cluster.Config) {
		t.Helper()
		b := broker.New(brokerConfig())
		defer b.Close()
		n, err := cluster.Start(cfg, b)
		if err == nil {
			n.Close()
			t.Fatal("the node starts")
		}
		if !strings.Contains(err.Error(), cfg.Embedded.Dir) || strings.Contains(err.Error(), "\n") {
			t.Errorf("the node refuses to start with %q, want one line that names %s", err, cfg.Embedded.Dir)
		}
	}
	t.Run("read-only", func(t *testing.T) {
		t.Parallel()
		cfg := configs(t, 1)[0]
		cfg.Embedded.Dir = pealdtest.SmallDisk(t, "4m")
		m := start(t, cfg)
		serving(t, m)
		m.publish(t, toAll("one"))
		m.end(t)
		must(t, syscall.Mount("tmpfs", cfg.Embedded.Dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		refuses(t, cfg)
	})
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		cfg := configs(t, 1)[0]
		cfg.Embedded.Dir = pealdtest.SmallDisk(t, "1m")
		fill(t, cfg.Embedded.Dir)
		refuses(t, cfg)
	})
}

// TestAPositionThatIsNotRecorded has a node alone fail to record how far its log was
// used: it takes nothing more until it can.
func TestAPositionThatIsNotRecorded(t *testing.T) {
	t.Parallel()
	cfg, log := configs(t, 1)[0], new(pealdtest.Log)
	cfg.Logger = loggingTo(log)
	m := start(t, cfg)
	serving(t, m)
	var all acknowledged
	must(t, all.publish(t, m, "one"))
	m.CloseMark(t)
	must(t, all.publish(t, m, "two"))
	eventually(t, func() bool { return len(log.With("event log can be written again")) > 0 }, func() string {
		return "the position is not recorded:\n" + log.String()
	})
	if said := log.With("level=ERROR"); len(said) != 1 || !strings.Contains(said[0], "recording the position in the log") {
		t.Errorf("want one error, got\n%s", strings.Join(said, ""))
	}
	m.kill(t)

	m = start(t, cfg)
	serving(t, m)
	must(t, all.publish(t, m, "three"))
	m.connect(t, broker.Subscription{LastEventID: all.ids[0]}).gets(t, all.data[1:]...)
	all.distinct(t)
}

// TestJetStreamThatStopsIsRestarted has the JetStream of a node alone stop, as it
// does after some errors.
func TestJetStreamThatStopsIsRestarted(t *testing.T) {
	t.Parallel()
	cfg, log := configs(t, 1)[0], new(pealdtest.Log)
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
	if said := log.With("level=ERROR"); len(said) != 1 || !strings.Contains(said[0], `cause="JetStream has stopped"`) {
		t.Errorf("want one error, got\n%s", strings.Join(said, ""))
	}
}

// TestAFullDiskWhoseEventsExpire fills a disk with nothing but the log, and gives
// it no room: what has expired makes some.
func TestAFullDiskWhoseEventsExpire(t *testing.T) {
	t.Parallel()
	cfg := configs(t, 1)[0]
	cfg.MaxAge, cfg.Embedded.Dir = 5*time.Second, pealdtest.SmallDisk(t, "1m")
	m := start(t, cfg)
	serving(t, m)
	var all acknowledged
	large := strings.Repeat("x", 100_000)
	for err := error(nil); err == nil; {
		err = all.publish(t, m, large)
	}
	eventually(t, func() bool { return all.publish(t, m, large) == nil }, func() string {
		_, reason := m.Serving()
		return "nothing is published any more: " + reason
	})
	all.distinct(t)
}
