package cluster_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/cluster"
	"github.com/peald/peald/internal/testbed"
)

// damages returns ways to damage a file while its node is down, by name. Each
// reports false if it isn't possible for the file.
func damages() map[string]func(t *testing.T, file damaged) bool {
	return map[string]func(t *testing.T, file damaged) bool{
		"removed": func(t *testing.T, file damaged) bool { t.Helper(); must(t, os.Remove(file.path)); return true },
		"emptied": func(t *testing.T, file damaged) bool { t.Helper(); must(t, os.Truncate(file.path, 0)); return true },
		"cut in half": func(t *testing.T, file damaged) bool {
			t.Helper()
			info, err := os.Stat(file.path)
			must(t, err)
			must(t, os.Truncate(file.path, info.Size()/2))
			return true
		},
		"flipped": func(t *testing.T, file damaged) bool {
			t.Helper()
			data, err := os.ReadFile(file.path)
			must(t, err)
			for i := len(data) / 2; i < len(data)/2+8 && i < len(data); i++ {
				data[i] ^= 0xff
			}
			must(t, os.WriteFile(file.path, data, 0o600))
			return true
		},
		"zeroed": func(t *testing.T, file damaged) bool {
			t.Helper()
			data, err := os.ReadFile(file.path)
			must(t, err)
			clear(data[:min(len(data), 64)])
			must(t, os.WriteFile(file.path, data, 0o600))
			return true
		},
		"older backup":    func(t *testing.T, file damaged) bool { t.Helper(); return replace(t, file, file.older) },
		"another cluster": func(t *testing.T, file damaged) bool { t.Helper(); return replace(t, file, file.another) },
	}
}

// damaged is a file to damage.
type damaged struct {
	path string
	// older and another are directories that contain a file of the same kind: an
	// older backup of the node, and the directory of a node from another cluster.
	older, another string
	kind           string // see kindOf
}

// varying matches the parts of a file's name that differ between nodes and runs.
var varying = regexp.MustCompile(`snap\.\d+\.\d+|\d+\.blk|S-R\dF-\w+`)

// kindOf returns the name of a file relative to the node's directory, without the
// parts that differ between nodes and runs.
func kindOf(file string) string {
	return varying.ReplaceAllStringFunc(file, func(part string) string {
		switch {
		case strings.HasPrefix(part, "snap"):
			return "snap"
		case strings.HasSuffix(part, ".blk"):
			return "blk"
		default:
			return "group"
		}
	})
}

// ofKind returns the path of the first file of a kind in a directory, or an empty
// string.
func ofKind(t *testing.T, dir, kind string) string {
	t.Helper()
	files := filesOf(t, dir)
	i := slices.IndexFunc(files, func(f string) bool { return kindOf(f) == kind })
	if i < 0 {
		return ""
	}
	return filepath.Join(dir, files[i])
}

// replace replaces a file with one of the same kind from another directory. It
// reports whether there is one with different content.
func replace(t *testing.T, file damaged, dir string) bool {
	t.Helper()
	other := ofKind(t, dir, file.kind)
	if other == "" {
		return false
	}
	data, err := os.ReadFile(other)
	must(t, err)
	had, err := os.ReadFile(file.path)
	must(t, err)
	if bytes.Equal(data, had) {
		return false
	}
	must(t, os.WriteFile(file.path, data, 0o600))
	return true
}

// namesFile checks that the error from a node that doesn't start is one line that
// names a file.
func namesFile(t *testing.T, err error, path string) {
	t.Helper()
	if !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("the node fails with %q, want one line that names %s", err, path)
	}
}

// filesOf returns the paths of the files below a directory, relative to it.
func filesOf(t *testing.T, dir string) (files []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			name, _ := filepath.Rel(dir, path)
			files = append(files, name)
		}
		return err
	}))
	return files
}

// filled is a standalone node that has run twice and is down. Its event log has lost the
// entries of the first run, as it does when they expire, so its first retained value is
// only in the snapshot.
type filled struct {
	cfg    cluster.Config
	ids    map[string]string // the data of the events that clients have received, by id
	values []string          // the retained values
}

// older returns the directory with a backup of the node after its first run.
func (f filled) older() string { return f.cfg.Embedded.Dir + ".older" }

// fillLog fills the event log of a standalone node. The events and values contain name.
func fillLog(t *testing.T, name string) filled {
	t.Helper()
	f := filled{cfg: configs(t, 1)[0], ids: make(map[string]string)}
	for run := range 2 {
		m := start(t, f.cfg)
		serving(t, m)
		for i := range published {
			data := fmt.Sprintf("old %d %s %s", run*published+i, name, strings.Repeat("x", 1000))
			f.ids[m.publish(t, toAll(data)).ID] = data
		}
		value := fmt.Sprintf("value %d %s", run, name)
		last := m.publish(t, retained("t", fmt.Sprint(run), value))
		f.values = append(f.values, value)
		if run == 0 {
			saved(t, m, last)
			m.Expire(t)
			clear(f.ids)
			f.ids[last.ID] = value
		}
		m.end(t)
		if run == 0 {
			copyDir(t, f.cfg.Embedded.Dir, f.older())
		}
	}
	return f
}

// TestDamagedFiles damages each file of a standalone node in each way. The node must
// either fail to start with one line that names the file, or serve, without using
// an id twice or missing an event without a reset. If it has lost retained values, it
// must log that.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	another := fillLog(t, "another")
	files := filesOf(t, another.cfg.Embedded.Dir)
	for _, need := range []string{"name", "mark", "streams/test/msgs/blk", "streams/test/meta.inf", "streams/test_retained/msgs/blk", "streams/test_retained/meta.inf"} {
		if !slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(kindOf(f), need) }) {
			t.Fatalf("no %s among %q", need, files)
		}
	}
	for _, file := range files {
		for damage, do := range damages() {
			t.Run(file+"/"+damage, func(t *testing.T) {
				t.Parallel()
				f := fillLog(t, "own")
				path := ofKind(t, f.cfg.Embedded.Dir, kindOf(file))
				if !do(t, damaged{path, f.older(), another.cfg.Embedded.Dir, kindOf(file)}) {
					t.Skip("the damage isn't possible for this file")
				}
				log := new(testbed.Log)
				f.cfg.Logger = loggingTo(log)
				m, err := tryStart(t, f.cfg, brokerConfig())
				if err != nil {
					namesFile(t, err, path)
					return
				}
				serving(t, m)
				f.checkEvents(t, m)
				f.checkValues(t, m, log)
			})
		}
	}
}

// checkEvents checks that the node uses no id twice, and that clients receive the events
// that they have missed, or a reset.
func (f filled) checkEvents(t *testing.T, m *member) {
	t.Helper()
	for i := range 2 * published {
		data := fmt.Sprint("new ", i)
		if id := m.publish(t, toAll(data)).ID; f.ids[id] != "" {
			t.Errorf("the id %s is used twice", id)
		}
	}
	for id, data := range f.ids {
		index := published - 1
		_, _ = fmt.Sscanf(data, "old %d", &index)
		want := 2*published - 1 - index + 2*published
		c := m.connect(t, broker.Subscription{LastEventID: id})
		eventually(t, func() bool { return len(c.data()) > 0 }, func() string { return "a client receives nothing" })
		if strings.Contains(c.data()[0], `"reason":`) {
			continue
		}
		eventually(t, func() bool { return len(c.data()) >= want }, func() string {
			return fmt.Sprintf("a client receives %d events and no reset, want %d", len(c.data()), want)
		})
	}
}

// checkValues checks that a new client receives the retained values, and no others. If
// there are fewer, the log must explain that.
func (f filled) checkValues(t *testing.T, m *member, log *testbed.Log) {
	t.Helper()
	c := m.connect(t, broker.Subscription{Topics: []string{"t"}})
	m.publish(t, toAll("end"))
	eventually(t, func() bool { return slices.Contains(c.data(), "end") }, func() string { return "a client doesn't receive an event" })
	got := slices.DeleteFunc(c.data(), func(data string) bool { return data == "end" })
	for _, value := range got {
		if !slices.Contains(f.values, value) {
			t.Errorf("a client receives %q, want one of %q", value, f.values)
		}
	}
	explained := len(log.With("level=ERROR", "retained values are lost"))+len(log.With("level=WARN", "values may be missing")) > 0
	if len(got) < len(f.values) && !explained {
		t.Errorf("a client receives the values %q, want %q, and the log doesn't explain that:\n%s", got, f.values, log)
	}
}

// TestRemovedEntry removes an entry from the event log, as an administrator might.
func TestRemovedEntry(t *testing.T) {
	t.Parallel()
	cfg := configs(t, 1)[0]
	m := start(t, cfg)
	serving(t, m)
	var ids []string
	for i := range published {
		ids = append(ids, m.publish(t, toAll(fmt.Sprint(i))).ID)
	}
	js, err := jetstream.New(m.Conn())
	must(t, err)
	stream, err := js.Stream(t.Context(), cfg.Name)
	must(t, err)
	must(t, stream.DeleteMsg(t.Context(), 3))
	m.end(t)

	m = start(t, cfg)
	serving(t, m)
	if reason := m.reset(t, ids[0]); reason != "expired" {
		t.Errorf("a client from before the gap gets a reset with reason %s, want expired", reason)
	}
	m.connect(t, broker.Subscription{LastEventID: ids[3]}).gets(t, "4")
}

// TestForeignEntriesAreRejected appends a batch from another event log, and publishes
// one on the subject of live entries.
func TestForeignEntriesAreRejected(t *testing.T) {
	t.Parallel()
	m := start(t, configs(t, 1)[0])
	serving(t, m)
	c := m.connect(t, broker.Subscription{})
	m.publish(t, toAll("one"))
	foreign := m.EncodeBatch(t, "another", 1, func(int) broker.Message { return toAll("foreign") })
	must(t, m.Conn().Publish("test.entries", foreign))
	live := nats.NewMsg("test.live")
	live.Data = foreign
	live.Header.Set(jetstream.SequenceHeader, "1000")
	live.Header.Set(jetstream.TimeStampHeaer, "2026-01-01T00:00:00Z")
	must(t, m.Conn().PublishMsg(live))
	m.publish(t, toAll("two"))
	c.gets(t, "one", "two")
}

// TestRequiredStreamSettingsAreRestored turns off the stream settings that reading
// depends on, as an administrator might.
func TestRequiredStreamSettingsAreRestored(t *testing.T) {
	t.Parallel()
	cfg := configs(t, 1)[0]
	m := start(t, cfg)
	serving(t, m)
	js, err := jetstream.New(m.Conn())
	must(t, err)
	stream, err := js.Stream(t.Context(), cfg.Name)
	must(t, err)
	altered := stream.CachedInfo().Config
	altered.AllowDirect, altered.RePublish = false, nil
	_, err = js.UpdateStream(t.Context(), altered)
	must(t, err)
	eventually(t, func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.Config.AllowDirect && info.Config.RePublish != nil
	}, func() string { return "the stream's settings are not restored" })
	c := m.connect(t, broker.Subscription{})
	m.publish(t, toAll("one"))
	c.gets(t, "one")
}
