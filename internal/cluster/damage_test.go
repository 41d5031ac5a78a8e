package cluster_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/cluster"
)

// damages are what happens to a file while its node is down.
var damages = map[string]func(t *testing.T, path string){
	"removed": func(t *testing.T, path string) { t.Helper(); must(t, os.Remove(path)) },
	"emptied": func(t *testing.T, path string) { t.Helper(); must(t, os.Truncate(path, 0)) },
	"cut in half": func(t *testing.T, path string) {
		t.Helper()
		info, err := os.Stat(path)
		must(t, err)
		must(t, os.Truncate(path, info.Size()/2))
	},
	"flipped": func(t *testing.T, path string) {
		t.Helper()
		data, err := os.ReadFile(path)
		must(t, err)
		for i := len(data) / 2; i < len(data)/2+8 && i < len(data); i++ {
			data[i] ^= 0xff
		}
		must(t, os.WriteFile(path, data, 0o600))
	},
}

// filesOf are the files under a directory, from there.
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

// TestADamagedFile damages each file of a node alone: it serves then, gives no id
// twice and leaves out no event without a reset, or it refuses to start with one
// line that names the file.
func TestADamagedFile(t *testing.T) {
	t.Parallel()
	filled := func(t *testing.T) (cfg cluster.Config, ids map[string]string) {
		t.Helper()
		cfg, ids = configs(t, 1)[0], make(map[string]string)
		m := start(t, cfg)
		serving(t, m)
		for i := range published {
			data := fmt.Sprintf("old %d %s", i, strings.Repeat("x", 1000))
			ids[m.publish(t, toAll(data)).ID] = data
		}
		m.end(t)
		return cfg, ids
	}
	cfg, _ := filled(t)
	files := filesOf(t, cfg.Embedded.Dir)
	for _, need := range []string{"name", "mark", "1.blk", "meta.inf"} {
		if !slices.ContainsFunc(files, func(f string) bool { return filepath.Base(f) == need }) {
			t.Fatalf("no %s among %q", need, files)
		}
	}
	for _, file := range files {
		for damage, do := range damages {
			t.Run(file+"/"+damage, func(t *testing.T) {
				t.Parallel()
				cfg, ids := filled(t)
				path := filepath.Join(cfg.Embedded.Dir, file)
				do(t, path)
				refusing := broker.New(brokerConfig())
				n, err := cluster.Start(cfg, refusing)
				if err == nil {
					n.Close()
				}
				refusing.Close()
				if err != nil {
					if !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
						t.Errorf("the node refuses to start with %q, want one line that names %s", err, path)
					}
					return
				}
				m := start(t, cfg)
				serving(t, m)
				for i := range 2 * published {
					data := fmt.Sprint("new ", i)
					if id := m.publish(t, toAll(data)).ID; ids[id] != "" {
						t.Errorf("the id %s is given twice", id)
					}
				}
				for id, data := range ids {
					var place int
					_, _ = fmt.Sscanf(data, "old %d", &place)
					want := published - 1 - place + 2*published
					c := m.connect(t, broker.Subscription{LastEventID: id})
					eventually(t, func() bool { return len(c.data()) > 0 }, func() string { return "a client gets nothing" })
					if strings.Contains(c.data()[0], `"reason":`) {
						continue
					}
					eventually(t, func() bool { return len(c.data()) >= want }, func() string {
						return fmt.Sprintf("a client gets %d events and no reset, want %d", len(c.data()), want)
					})
				}
			})
		}
	}
}

// TestAnEntryThatWasRemoved has an administrator remove an entry from the log.
func TestAnEntryThatWasRemoved(t *testing.T) {
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
		t.Errorf("a client from before the gap gets a reset for %s, want expired", reason)
	}
	m.connect(t, broker.Subscription{LastEventID: ids[3]}).gets(t, "4")
}

// TestEntriesOfAnotherLogAreRejected appends a batch of another log, and
// publishes one as if it came live.
func TestEntriesOfAnotherLogAreRejected(t *testing.T) {
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

// TestWhatNodesNeedOfTheStreamIsRestored has an administrator turn off what the log
// is read by.
func TestWhatNodesNeedOfTheStreamIsRestored(t *testing.T) {
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
