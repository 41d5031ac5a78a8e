//go:build unix

package postgres_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/outbox"
	"github.com/peald/peald/internal/source/postgres"
	"github.com/peald/peald/internal/testbed"
)

// eventually is how long a test waits for what takes milliseconds on an idle machine.
const eventually = 90 * time.Second

// recorder is a [source.Publisher] that records messages, each key once.
type recorder struct {
	mu       sync.Mutex
	down     bool
	messages []broker.Message
	keys     map[string]bool
	repeated int
}

func (r *recorder) Ready() error { return nil }

func (r *recorder) PublishInOrder(_ context.Context, messages []broker.Message) ([]error, error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.down {
		return nil, &broker.UnavailableError{Reason: "no leader"}
	}
	for _, m := range messages {
		if r.keys[m.IdempotencyKey] {
			r.repeated++

			continue
		}
		if r.keys == nil {
			r.keys = make(map[string]bool)
		}
		r.keys[m.IdempotencyKey] = true
		r.messages = append(r.messages, m)
	}

	return make([]error, len(messages)), nil
}

func (r *recorder) setDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.down = down
}

// data returns the data of all messages, in order.
func (r *recorder) data() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()

	for _, m := range r.messages {
		all = append(all, m.Data)
	}

	return all
}

// waitFor waits until the data of all messages is want.
func (r *recorder) waitFor(t *testing.T, want ...string) {
	t.Helper()

	if !testbed.Eventually(eventually, func() bool { return len(r.data()) >= len(want) }) || !slices.Equal(r.data(), want) {
		t.Fatalf("published %.300q, want %.300q", r.data(), want)
	}
}

// run reads a source until the test ends, or the returned function is called.
func run(t *testing.T, to source.Publisher, cfg postgres.Config, m source.Map, log *testbed.Log) (manager *source.Manager, stop func()) {
	t.Helper()

	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	manager = source.NewManager(source.Config{Publisher: to, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err := (source.Source{Name: "orders", Kind: cfg, Map: m}).Validate(); err != nil {
		t.Fatal(err)
	}
	manager.Reconfigure([]source.Source{{Name: "orders", Kind: cfg, Map: m}})

	var running sync.WaitGroup
	running.Go(func() { manager.Run(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("log of the source:\n%s", log.String())
		}
	})

	return manager, stop
}

func waitForState(t *testing.T, manager *source.Manager, state source.State) {
	t.Helper()

	var last source.Status
	if !testbed.Eventually(eventually, func() bool {
		all := manager.Statuses()
		if len(all) == 1 {
			last = all[0]
		}

		return last.State == state
	}) {
		t.Fatalf("status %+v, want %s", last, state)
	}
}

func exec(t *testing.T, conn interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}, sql string, args ...any,
) {
	t.Helper()

	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%.80s: %v", sql, err)
	}
}

func begin(t *testing.T, conn *pgx.Conn) pgx.Tx {
	t.Helper()

	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	return tx
}

func end(t *testing.T, err error) {
	t.Helper()

	if err != nil {
		t.Fatalf("end a transaction: %v", err)
	}
}

// count returns the number of rows of a table.
func count(t *testing.T, conn *pgx.Conn, table string) (n int) {
	t.Helper()

	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}

	return n
}

func waitUntilEmpty(t *testing.T, conn *pgx.Conn, table string) {
	t.Helper()

	if !testbed.Eventually(eventually, func() bool { return count(t, conn, table) == 0 }) {
		t.Fatalf("%d rows are left in %s", count(t, conn, table), table)
	}
}

func schema(deadLetter string) string {
	rejected, _ := outbox.ParseTable(deadLetter)

	return outbox.Schema([]string{outbox.DefaultTable}, rejected)
}

const insert = "INSERT INTO peald_outbox (topic, data) VALUES ($1, $2)"
