package load_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/peald/peald/internal/source/outbox"
	"github.com/peald/peald/internal/sourcetest"
)

// TestOutboxLosesNothing writes rows into an outbox, which a cluster publishes, while
// nodes, the event log's leader and the database are killed and connections break. Each
// client must receive all of its events exactly once and in order.
//
// SOAK_OUTBOX sets the number of rows. By default, the test is short: only a quarter of
// the disruptions run, with ten clients.
func TestOutboxLosesNothing(t *testing.T) {
	t.Parallel()

	rows, load, short := soakRecords(t, "SOAK_OUTBOX")
	database := newOutbox(t)
	source := &testedSource{name: "outbox", server: database.server, turn: 0}
	nodes := source.startNodes(t, database.server.Addr, func(addr string) map[string]any {
		return map[string]any{"postgres": map[string]any{"url": sourcetest.PostgresURL(addr, "postgres", database.name)}}
	})
	w := openClusterWorld(t, nodes, load)
	pause := 5 * time.Millisecond
	if short {
		pause = time.Second
	}
	writers := writeOutbox(w, database, rows, pause)

	started := time.Now()
	source.disrupt(t, w, short, writers.written.Load, func() bool { return writers.written.Load() >= rows }, func() bool { return database.published(t) })
	writers.finish(t)
	w.finish(t)
	t.Logf("%d rows in %s", writers.written.Load(), time.Since(started).Round(time.Second))
}

// outboxDatabase is a database with an outbox.
type outboxDatabase struct {
	server *sourcetest.Postgres
	name   string
}

func newOutbox(t *testing.T) *outboxDatabase {
	t.Helper()

	server := sourcetest.StartPostgres(t)
	// Writers look up the transactions whose end they haven't learned.
	_, name := server.NewDatabase(t, outbox.Schema([]string{outbox.DefaultTable}, nil), "CREATE TABLE committed (name text PRIMARY KEY)")

	return &outboxDatabase{server: server, name: name}
}

// published reports whether the oldest row is recent.
func (d *outboxDatabase) published(t *testing.T) bool {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()

	conn, err := pgx.Connect(ctx, d.server.URL("postgres", d.name))
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close(ctx) }()

	var recent bool
	err = conn.QueryRow(ctx, "SELECT coalesce(min(created_at) > now() - interval '1 second', true) FROM peald_outbox").Scan(&recent)

	return err == nil && recent
}

// outboxWriters write rows for the audiences of a world. Only one of them writes for an
// audience, so that the order of events is known.
type outboxWriters struct {
	world    *clusterWorld
	database *outboxDatabase
	rows     int64
	pause    time.Duration // between transactions
	enough   atomic.Bool   // the writers may end once there are enough rows
	written  atomic.Int64  // committed
	running  sync.WaitGroup
}

func writeOutbox(w *clusterWorld, d *outboxDatabase, rows int64, pause time.Duration) *outboxWriters {
	const count = 8
	writers := &outboxWriters{world: w, database: d, rows: rows, pause: pause}
	audiences := audiencesOf(w)

	for i := range count {
		var own []string
		for j := i; j < len(audiences); j += count {
			own = append(own, audiences[j])
		}
		writers.running.Go(func() { writers.write(w.publishing, i, own) })
	}

	return writers
}

// write writes transactions until there are enough rows.
func (o *outboxWriters) write(ctx context.Context, number int, audiences []string) {
	pause := time.NewTicker(o.pause)
	defer pause.Stop()

	var conn *pgx.Conn
	defer func() { closeConn(conn) }()

	for i := 0; (o.written.Load() < o.rows || !o.enough.Load()) && ctx.Err() == nil; i++ {
		name := fmt.Sprint(number, "-", i)
		numbers, data := o.draw(audiences)
		commit := rand.IntN(10) > 0

		known := false
		for !known && ctx.Err() == nil {
			if conn == nil || conn.IsClosed() {
				conn, _ = pgx.Connect(ctx, o.database.server.URL("postgres", o.database.name))
			}
			if conn != nil {
				known = o.attempt(ctx, conn, name, data, commit)
			}
			<-pause.C
		}
		if !commit {
			continue
		}

		o.written.Add(int64(len(data)))
		o.world.mu.Lock()
		maps.Copy(o.world.sent, numbers)
		o.world.mu.Unlock()
	}
}

// draw returns the data of some rows, and the last number of each audience after them.
func (o *outboxWriters) draw(audiences []string) (numbers map[string]int, data []string) {
	numbers = make(map[string]int)
	for range 1 + rand.IntN(20) {
		audience := audiences[rand.IntN(len(audiences))]
		n, drawn := numbers[audience]
		if !drawn {
			o.world.mu.Lock()
			n = o.world.sent[audience]
			o.world.mu.Unlock()
		}
		numbers[audience] = n + 1
		data = append(data, fmt.Sprint(audience, " ", n+1))
	}

	return numbers, data
}

// attempt writes rows in one transaction, unless an earlier attempt was committed. It
// returns false if it can't be known whether this attempt was.
func (o *outboxWriters) attempt(ctx context.Context, conn *pgx.Conn, name string, data []string, commit bool) (known bool) {
	var done bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM committed WHERE name = $1)", name).Scan(&done); err != nil || done {
		closeIf(conn, err)

		return err == nil
	}

	tx, err := conn.Begin(ctx)
	if err != nil {
		closeIf(conn, err)

		return false
	}
	for _, text := range data {
		audience, _, _ := strings.Cut(text, " ")
		topic, user := &audience, &audience
		switch {
		case audience == "everyone":
			topic, user = nil, nil
		case strings.HasPrefix(audience, "topic"):
			user = nil
		default:
			topic = nil
		}
		if _, err = tx.Exec(ctx, "INSERT INTO peald_outbox (topic, user_id, everyone, data) VALUES ($1, $2, $3, $4)",
			topic, user, audience == "everyone", text); err != nil {
			closeIf(conn, err)

			return false
		}
	}
	if !commit {
		return tx.Rollback(ctx) == nil || conn.IsClosed()
	}

	_, err = tx.Exec(ctx, "INSERT INTO committed VALUES ($1)", name)
	if err == nil {
		err = tx.Commit(ctx)
	}
	closeIf(conn, err)

	return err == nil
}

func closeIf(conn *pgx.Conn, err error) {
	if err != nil {
		closeConn(conn)
	}
}

func closeConn(conn *pgx.Conn) {
	if conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()

		_ = conn.Close(ctx)
	}
}

// finish waits until all rows are written and published.
func (o *outboxWriters) finish(t *testing.T) {
	t.Helper()

	o.enough.Store(true)
	o.running.Wait()

	conn := o.database.server.Connect(t, o.database.name)
	var left int
	if !eventually(2*time.Minute, func() bool {
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM peald_outbox").Scan(&left); err != nil {
			t.Fatal(err)
		}

		return left == 0
	}) {
		t.Errorf("%d rows aren't published", left)
	}
}
