//go:build unix

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/outbox"
	"github.com/peald/peald/internal/source/postgres"
	"github.com/peald/peald/internal/sourcetest"
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

	if !pealdtest.Eventually(eventually, func() bool { return len(r.data()) >= len(want) }) || !slices.Equal(r.data(), want) {
		t.Fatalf("published %.300q, want %.300q", r.data(), want)
	}
}

// run reads a source until the test ends, or the returned function is called.
func run(t *testing.T, to source.Publisher, cfg postgres.Config, m source.Map, log *pealdtest.Log) (manager *source.Manager, stop func()) {
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
	if !pealdtest.Eventually(eventually, func() bool {
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

	if !pealdtest.Eventually(eventually, func() bool { return count(t, conn, table) == 0 }) {
		t.Fatalf("%d rows are left in %s", count(t, conn, table), table)
	}
}

func schema(deadLetter string) string {
	rejected, _ := outbox.ParseTable(deadLetter)

	return outbox.Schema([]string{outbox.DefaultTable}, rejected)
}

const insert = "INSERT INTO peald_outbox (topic, data) VALUES ($1, $2)"

// TestReader runs the tests that share a server.
func TestReader(t *testing.T) {
	t.Parallel()

	server := sourcetest.StartPostgres(t)
	for name, test := range map[string]func(*testing.T, *sourcetest.Postgres){
		"columns":                 testColumns,
		"concurrent transactions": testConcurrentTransactions,
		"prepared transactions":   testPreparedTransactions,
		"many writers":            testManyWriters,
		"rejected rows":           testRejectedRows,
		"own table":               testOwnTable,
		"privileges":              testPrivileges,
		"standby":                 testStandby,
		"unavailable":             testUnavailable,
		"large rows":              testLargeRows,
		"rows without trigger":    testRowsWithoutTrigger,
		"lost connection":         testLostConnection,
		"problems":                testProblems,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, server)
		})
	}
}

func testColumns(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	conn, database := server.NewDatabase(t, schema(""))
	exec(t, conn, `INSERT INTO peald_outbox (topic, user_id, everyone, event, data, idempotency_key, ttl, conflate_key, retain) VALUES
		('orders.7', NULL, false, 'created', '{"id":7}', 'key-1', '90 seconds', 'order-7', true),
		(NULL, 'alice', false, NULL, 'to alice', NULL, NULL, NULL, false),
		(NULL, NULL, true, NULL, 'to everyone', NULL, '1 day 2 hours', NULL, false)`)

	var log pealdtest.Log
	to := &recorder{}
	manager, _ := run(t, to, postgres.Config{URL: server.URL("postgres", database), Table: outbox.DefaultTable}, source.Map{}, &log)
	to.waitFor(t, `{"id":7}`, "to alice", "to everyone")
	waitUntilEmpty(t, conn, "peald_outbox")

	derived := to.messages[1].IdempotencyKey
	if !strings.HasPrefix(derived, "peald-source:") || derived == to.messages[2].IdempotencyKey {
		t.Errorf("derived keys %q and %q", derived, to.messages[2].IdempotencyKey)
	}
	to.messages[1].IdempotencyKey, to.messages[2].IdempotencyKey = "", ""
	want := []broker.Message{
		{Audience: broker.ToTopic("orders.7"), Event: "created", Data: `{"id":7}`, IdempotencyKey: "key-1", TTL: 90 * time.Second, ConflateKey: "order-7", Retain: true},
		{Audience: broker.ToUser("alice"), Data: "to alice"},
		{Audience: broker.Everyone(), Data: "to everyone", TTL: 26 * time.Hour},
	}
	if !reflect.DeepEqual(to.messages, want) {
		t.Errorf("published %+v\nwant      %+v", to.messages, want)
	}

	waitForState(t, manager, source.StateActive)
	if !pealdtest.Eventually(eventually, func() bool { return manager.Statuses()[0].Lag.Records == 0 }) {
		t.Errorf("status %+v, want no lag", manager.Statuses()[0])
	}
}

// topicsInBuckets returns two topics in different buckets.
func topicsInBuckets(t *testing.T, conn *pgx.Conn) (a, b string) {
	t.Helper()

	err := conn.QueryRow(t.Context(), `WITH topics AS (SELECT 'topic' || n AS topic, NULL AS user_id FROM generate_series(1, 1000) AS n)
		SELECT a.topic, b.topic FROM topics a, topics b WHERE `+outbox.Bucket("a.")+" <> "+outbox.Bucket("b.")+" LIMIT 1").Scan(&a, &b)
	if err != nil {
		t.Fatal(err)
	}

	return a, b
}

// testConcurrentTransactions checks that rows for one topic are published in the order of
// their ids, although their transactions end in another order, and that rows for other
// topics don't wait.
func testConcurrentTransactions(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	conn, database := server.NewDatabase(t, schema(""))
	first, second := server.Connect(t, database), server.Connect(t, database)
	a, b := topicsInBuckets(t, conn)

	var log pealdtest.Log
	to := &recorder{}
	manager, _ := run(t, to, postgres.Config{URL: server.URL("postgres", database), Table: outbox.DefaultTable}, source.Map{}, &log)
	waitForState(t, manager, source.StateActive)

	tx := begin(t, first)
	exec(t, tx, insert, a, "a1")
	exec(t, second, insert, a, "a2")
	exec(t, second, insert, b, "b1")
	to.waitFor(t, "b1")
	exec(t, second, insert, b, "b2")
	to.waitFor(t, "b1", "b2")
	end(t, tx.Commit(t.Context()))
	to.waitFor(t, "b1", "b2", "a1", "a2")

	tx = begin(t, first)
	exec(t, tx, insert, a, "rolled back")
	exec(t, second, insert, a, "a3")
	exec(t, second, insert, b, "b3")
	to.waitFor(t, "b1", "b2", "a1", "a2", "b3")
	end(t, tx.Rollback(t.Context()))
	to.waitFor(t, "b1", "b2", "a1", "a2", "b3", "a3")
	waitUntilEmpty(t, conn, "peald_outbox")
}

// testPreparedTransactions checks that rows wait for transactions of which only a
// coordinator knows.
func testPreparedTransactions(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	conn, database := server.NewDatabase(t, schema(""), "DROP TRIGGER peald_outbox_notify ON peald_outbox") // NOTIFY can't be prepared
	a, b := topicsInBuckets(t, conn)

	var log pealdtest.Log
	to := &recorder{}
	manager, _ := run(t, to, postgres.Config{URL: server.URL("postgres", database), Table: outbox.DefaultTable}, source.Map{}, &log)
	waitForState(t, manager, source.StateActive)

	exec(t, conn, "BEGIN")
	exec(t, conn, insert, a, "a1")
	exec(t, conn, "PREPARE TRANSACTION '"+database+"'")
	exec(t, conn, insert, a, "a2")
	exec(t, conn, insert, b, "b1")
	to.waitFor(t, "b1")
	exec(t, conn, "COMMIT PREPARED '"+database+"'")
	to.waitFor(t, "b1", "a1", "a2")
}

// testManyWriters checks that the messages of each topic are in the order of the rows'
// ids, while many transactions write to the same topics and some are rolled back.
func testManyWriters(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	const writers, transactions, topics = 8, 60, 3
	conn, database := server.NewDatabase(t, schema(""))

	var log pealdtest.Log
	to := &recorder{}
	run(t, to, postgres.Config{URL: server.URL("postgres", database), Table: outbox.DefaultTable}, source.Map{}, &log)

	var mu sync.Mutex
	ids := make(map[string][]int64) // of committed rows, by topic
	total := 0
	var writing sync.WaitGroup
	for w := range writers {
		writer := server.Connect(t, database)
		writing.Go(func() {
			for i := range transactions {
				written, err := write(t.Context(), writer, w, i, topics)
				if err != nil {
					t.Error(err)

					return
				}
				mu.Lock()
				for topic, id := range written {
					ids[topic] = append(ids[topic], id)
					total++
				}
				mu.Unlock()
			}
		})
	}
	writing.Wait()

	waitUntilEmpty(t, conn, "peald_outbox")
	if got := len(to.data()); got != total || to.repeated > 0 {
		t.Errorf("published %d messages, and %d again; want %d", got, to.repeated, total)
	}
	got := make(map[string][]int64)
	for _, data := range to.data() {
		topic, text, _ := strings.Cut(data, " ")
		id, _ := strconv.ParseInt(text, 10, 64)
		got[topic] = append(got[topic], id)
	}
	for topic, want := range ids {
		if slices.Sort(want); !slices.Equal(got[topic], want) {
			t.Errorf("%s: published %v\nwant %v", topic, got[topic], want)
		}
	}
}

// write inserts a row for each topic in one transaction. The data of each row is its topic
// and its id. It returns the ids by topic, or none if it rolled the transaction back.
func write(ctx context.Context, conn *pgx.Conn, writer, number, topics int) (ids map[string]int64, err error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(ctx) }()

	ids = make(map[string]int64)
	for i := range topics {
		topic := fmt.Sprint("topic", (writer+number+i)%topics)
		var id int64
		if err := tx.QueryRow(ctx, insert+" RETURNING id", topic, "x").Scan(&id); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, "UPDATE peald_outbox SET data = topic || ' ' || id WHERE id = $1", id); err != nil {
			return nil, err
		}
		ids[topic] = id
	}
	if number%7 == 0 {
		return nil, tx.Rollback(ctx)
	}

	return ids, tx.Commit(ctx)
}

// testRejectedRows checks that rows that can't be published are moved to the dead-letter
// table, or deleted if there is none, and hold up no others.
func testRejectedRows(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	const rows = `INSERT INTO peald_outbox (topic, user_id, data) VALUES ('t', NULL, 'one'), ('a.*', NULL, 'private'), ('t', 'alice', 'private'),
		('t', NULL, 'two'), (NULL, NULL, 'private'), ('t', NULL, ''), ('t', NULL, 'three')`
	for _, deadLetter := range []string{"", "peald_rejected"} {
		conn, database := server.NewDatabase(t, schema("peald_rejected"))
		exec(t, conn, rows)

		var log pealdtest.Log
		to := &recorder{}
		manager, stop := run(t, to, postgres.Config{URL: server.URL("postgres", database), Table: outbox.DefaultTable, DeadLetter: deadLetter}, source.Map{}, &log)
		to.waitFor(t, "one", "two", "three")
		waitUntilEmpty(t, conn, "peald_outbox")
		if status := manager.Statuses()[0]; status.Published != 3 || status.Rejected != 4 {
			t.Errorf("status %+v, want 3 published and 4 rejected", status)
		}
		stop()

		if lines := log.With("record rejected", "offset="); len(lines) != 4 || strings.Contains(log.String(), "private") {
			t.Errorf("log without 4 rejected records, or with their data:\n%s", log.String())
		}
		if deadLetter == "" {
			continue
		}
		got, _ := conn.Query(t.Context(), "SELECT record->>'id' || ' ' || error FROM peald_rejected ORDER BY id")
		errs, err := pgx.CollectRows(got, pgx.RowTo[string])
		if err != nil || len(errs) != 4 {
			t.Fatalf("dead letters %q, %v; want 4", errs, err)
		}
		for i, want := range []string{"2 topic ", "3 user_id: ", "5 audience is missing", "6 data is empty"} {
			if !strings.HasPrefix(errs[i], want) {
				t.Errorf("dead letter %q, want %q", errs[i], want)
			}
		}
	}
}

// testOwnTable checks a table with other columns, and a table in a schema.
func testOwnTable(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	conn, database := server.NewDatabase(t, `CREATE SCHEMA "My App"`, `CREATE TABLE "My App"."Events" (
		id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, aggregate text, number int, urgent boolean, payload jsonb)`)
	exec(t, conn, `INSERT INTO "My App"."Events" (aggregate, number, urgent, payload) VALUES ('order', 7, true, '{"a": 1}'), ('order', 8, NULL, '[]')`)

	var log pealdtest.Log
	to := &recorder{}
	run(t, to, postgres.Config{URL: server.URL("postgres", database), Table: "My App.Events"},
		source.Map{Topic: "{column.aggregate}s.{column.number}", Data: "{column.payload}", Retain: "{column.urgent}",
			Event: "e", ConflateKey: "{table}", TTL: "1h", IdempotencyKey: "x-{offset}"}, &log)
	to.waitFor(t, `{"a": 1}`, "[]")
	if m := to.messages[0]; m.Audience != broker.ToTopic("orders.7") || !m.Retain || m.ConflateKey != "My App.Events" || m.TTL != time.Hour {
		t.Errorf("message %+v", m)
	}
	exec(t, conn, `INSERT INTO "My App"."Events" (aggregate, number, payload) VALUES ('order', 9, '{}')`)
	to.waitFor(t, `{"a": 1}`, "[]", "{}")
	waitUntilEmpty(t, conn, `"My App"."Events"`)
	if len(log.With("outbox without trigger")) != 1 {
		t.Errorf("log: %s", log.String())
	}
}

// testPrivileges checks which privileges writers and the reader need.
func testPrivileges(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	conn, database := server.NewDatabase(t, schema("peald_rejected"),
		"CREATE ROLE a_writer LOGIN", "CREATE ROLE a_reader LOGIN",
		"GRANT INSERT ON peald_outbox TO a_writer",
		"GRANT SELECT, DELETE ON peald_outbox TO a_reader", "GRANT INSERT ON peald_rejected TO a_reader")
	exec(t, conn, "SET ROLE a_writer")
	exec(t, conn, insert, "t", "one")
	exec(t, conn, insert, "a.*", "rejected")
	exec(t, conn, "RESET ROLE")

	var log pealdtest.Log
	to := &recorder{}
	run(t, to, postgres.Config{URL: server.URL("a_reader", database), Table: outbox.DefaultTable, DeadLetter: "peald_rejected"}, source.Map{}, &log)
	to.waitFor(t, "one")
	waitUntilEmpty(t, conn, "peald_outbox")
	if n := count(t, conn, "peald_rejected"); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}

// testStandby checks that only one reader is active, and that another one takes over.
func testStandby(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	conn, database := server.NewDatabase(t, schema(""))
	cfg := postgres.Config{URL: server.URL("postgres", database), Table: outbox.DefaultTable}

	var log pealdtest.Log
	to := &recorder{}
	first, stop := run(t, to, cfg, source.Map{}, &log)
	waitForState(t, first, source.StateActive)
	second, _ := run(t, to, cfg, source.Map{}, &log)
	waitForState(t, second, source.StateStandby)

	exec(t, conn, insert, "t", "one")
	to.waitFor(t, "one")
	waitUntilEmpty(t, conn, "peald_outbox")
	stop()
	exec(t, conn, insert, "t", "two")
	to.waitFor(t, "one", "two")
	waitForState(t, second, source.StateActive)
	if status := second.Statuses()[0]; status.Published != 1 || to.repeated != 0 {
		t.Errorf("status %+v, %d messages repeated", status, to.repeated)
	}
}

// testUnavailable checks that rows stay in the table while nothing can be published.
func testUnavailable(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	conn, database := server.NewDatabase(t, schema(""))
	var log pealdtest.Log
	to := &recorder{down: true}
	manager, _ := run(t, to, postgres.Config{URL: server.URL("postgres", database), Table: outbox.DefaultTable}, source.Map{}, &log)
	exec(t, conn, insert, "t", "one")
	waitForState(t, manager, source.StateWaiting)
	exec(t, conn, insert, "t", "two")
	if n := count(t, conn, "peald_outbox"); n != 2 {
		t.Errorf("%d rows while nothing can be published, want 2", n)
	}
	to.setDown(false)
	to.waitFor(t, "one", "two")
	waitUntilEmpty(t, conn, "peald_outbox")
}

// testLargeRows checks that batches are limited by size.
func testLargeRows(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	conn, database := server.NewDatabase(t, schema(""))
	exec(t, conn, `INSERT INTO peald_outbox (topic, data)
		SELECT 't', CASE WHEN n % 250 = 0 THEN repeat('x', 1048576 - 4) ELSE '' END || lpad(n::text, 4, '0') FROM generate_series(1, 5000) AS n`)

	var log pealdtest.Log
	to := &recorder{}
	run(t, to, postgres.Config{URL: server.URL("postgres", database), Table: outbox.DefaultTable}, source.Map{}, &log)
	waitUntilEmpty(t, conn, "peald_outbox")
	for i, data := range to.data() {
		if want := fmt.Sprintf("%04d", i+1); !strings.HasSuffix(data, want) {
			t.Fatalf("message %d ends with %.10q, want %s", i, data[max(0, len(data)-4):], want)
		}
	}
	if n := len(to.data()); n != 5000 {
		t.Errorf("%d messages, want 5000", n)
	}
}

// testRowsWithoutTrigger checks that rows are found although their ids are smaller than
// those of rows that have been published.
func testRowsWithoutTrigger(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	conn, database := server.NewDatabase(t, schema(""))
	var log pealdtest.Log
	to := &recorder{}
	run(t, to, postgres.Config{URL: server.URL("postgres", database), Table: outbox.DefaultTable}, source.Map{}, &log)
	for i := range 20 {
		exec(t, conn, insert, "t", fmt.Sprint(i))
	}
	waitUntilEmpty(t, conn, "peald_outbox")

	// As logical replication and pg_restore do.
	exec(t, conn, "SET session_replication_role = replica")
	exec(t, conn, "INSERT INTO peald_outbox (id, topic, data) VALUES (1, 't', 'restored')")
	waitUntilEmpty(t, conn, "peald_outbox")
	if all := to.data(); all[len(all)-1] != "restored" {
		t.Errorf("published %q", all)
	}
}

// testLostConnection checks that a reader continues after its connection is lost.
func testLostConnection(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	conn, database := server.NewDatabase(t, schema(""))
	proxy := sourcetest.NewProxy(t, server.Addr)
	var log pealdtest.Log
	to := &recorder{}
	manager, _ := run(t, to, postgres.Config{URL: sourcetest.PostgresURL(proxy.Addr, "postgres", database), Table: outbox.DefaultTable}, source.Map{}, &log)
	waitForState(t, manager, source.StateActive)

	var want []string
	for i := range 5 {
		want = append(want, fmt.Sprint(i))
		exec(t, conn, insert, "t", fmt.Sprint(i))
		switch i {
		case 1:
			proxy.Cut()
			waitForState(t, manager, source.StateFailed)
			proxy.Heal()
		case 3:
			exec(t, conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		}
	}
	to.waitFor(t, want...)
	waitUntilEmpty(t, conn, "peald_outbox")
}

// testProblems checks that the status names what is wrong, without any secret.
func testProblems(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	const password = "not-for-logs"
	_, database := server.NewDatabase(t, schema(""),
		"CREATE ROLE "+sourcetest.WithPassword+" LOGIN PASSWORD 'another one'",
		"CREATE ROLE nobody_special LOGIN", "CREATE ROLE only_reads LOGIN", "GRANT SELECT ON peald_outbox TO only_reads",
		"CREATE SCHEMA hidden", "CREATE TABLE hidden.outbox (id bigint)",
		"CREATE TABLE no_id (topic text, data text)",
		"CREATE TABLE lacks_columns (id bigint, topic text, data text, usr_id text)",
		"CREATE TABLE not_dead (id bigint, record text)")
	role := "postgres"
	wrongPassword := strings.Replace(server.URL(sourcetest.WithPassword, database), "@", ":"+password+"@", 1)

	for name, test := range map[string]struct {
		cfg  postgres.Config
		m    source.Map
		want string
	}{
		"wrong password":      {postgres.Config{URL: wrongPassword}, source.Map{}, `password authentication failed for user "` + sourcetest.WithPassword + `"`},
		"unknown database":    {postgres.Config{URL: server.URL(role, "nowhere")}, source.Map{}, `database "nowhere" does not exist`},
		"unknown role":        {postgres.Config{URL: server.URL("stranger", database)}, source.Map{}, `role "stranger" does not exist`},
		"no server":           {postgres.Config{URL: sourcetest.PostgresURL("127.0.0.1:1", role, database)}, source.Map{}, "connection refused"},
		"missing table":       {postgres.Config{URL: server.URL(role, database), Table: "nothing"}, source.Map{}, `postgres.table: there is no table "nothing" in database "` + database},
		"hidden schema":       {postgres.Config{URL: server.URL("nobody_special", database), Table: "hidden.outbox"}, source.Map{}, `hidden`},
		"no privilege":        {postgres.Config{URL: server.URL("nobody_special", database)}, source.Map{}, `postgres.table: user "nobody_special" lacks the privilege SELECT on table "peald_outbox"`},
		"no DELETE":           {postgres.Config{URL: server.URL("only_reads", database)}, source.Map{}, `user "only_reads" lacks the privilege DELETE on table "peald_outbox"`},
		"no id":               {postgres.Config{URL: server.URL(role, database), Table: "no_id"}, source.Map{Topic: "t"}, `table "no_id" needs a column id of type bigint`},
		"missing columns":     {postgres.Config{URL: server.URL(role, database), Table: "lacks_columns"}, source.Map{}, `table "lacks_columns" has no column "conflate_key", "event", "everyone", "idempotency_key", "retain", "ttl", "user_id", which the source's map uses; it has "id", "usr_id" as well`},
		"unknown column":      {postgres.Config{URL: server.URL(role, database)}, source.Map{Event: "{column.evnt}"}, `table "peald_outbox" has no column "evnt"`},
		"missing dead letter": {postgres.Config{URL: server.URL(role, database), DeadLetter: "graveyard"}, source.Map{}, `postgres.dead_letter: there is no table "graveyard"`},
		"wrong dead letter":   {postgres.Config{URL: server.URL(role, database), DeadLetter: "not_dead"}, source.Map{}, `postgres.dead_letter: table "not_dead" needs the columns record of type jsonb and error of type text`},
	} {
		t.Run(name, func(t *testing.T) {
			if test.cfg.Table == "" {
				test.cfg.Table = outbox.DefaultTable
			}

			var log pealdtest.Log
			manager, stop := run(t, &recorder{}, test.cfg, test.m, &log)
			waitForState(t, manager, source.StateFailed)
			status := manager.Statuses()[0]
			stop()
			if !strings.Contains(status.LastError, test.want) || len(log.With("source failed", "source=orders")) == 0 {
				t.Errorf("last error %q, want %q; log:\n%s", status.LastError, test.want, log.String())
			}
			if strings.Contains(log.String()+status.LastError, password) || strings.Contains(status.LastError, "\n") {
				t.Errorf("secret or more than one line in %q or in the log:\n%s", status.LastError, log.String())
			}
		})
	}
}

// TestRestartedServer checks that a reader continues after its server was killed, and
// after it was restarted.
func TestRestartedServer(t *testing.T) {
	t.Parallel()

	server := sourcetest.StartPostgres(t)
	conn, database := server.NewDatabase(t, schema(""))
	var log pealdtest.Log
	to := &recorder{}
	run(t, to, postgres.Config{URL: server.URL("postgres", database), Table: outbox.DefaultTable}, source.Map{}, &log)
	exec(t, conn, insert, "t", "one")
	to.waitFor(t, "one")

	server.Kill()
	server.Start(t)
	exec(t, server.Connect(t, database), insert, "t", "two")
	to.waitFor(t, "one", "two")

	server.Restart(t)
	conn = server.Connect(t, database)
	exec(t, conn, insert, "t", "three")
	to.waitFor(t, "one", "two", "three")
	waitUntilEmpty(t, conn, "peald_outbox")
}

func TestValidate(t *testing.T) {
	t.Parallel()

	valid := postgres.Config{URL: "postgres://u:secret@localhost/shop", Table: "peald_outbox", DeadLetter: "app.rejected"}
	if err := valid.Validate(); err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]struct {
		change func(*postgres.Config)
		want   string
	}{
		"no URL":           {func(c *postgres.Config) { c.URL = "" }, `postgres.url: given ""; want a URL such as postgres://`},
		"invalid URL":      {func(c *postgres.Config) { c.URL = "postgres://u:secret@localhost:port/shop" }, "postgres.url: given ***; want a URL"},
		"other scheme":     {func(c *postgres.Config) { c.URL = "mysql://u:secret@localhost/shop" }, "postgres.url: given ***; want a URL"},
		"no table":         {func(c *postgres.Config) { c.Table = "" }, `postgres.table: given ""; want the name of a table`},
		"three names":      {func(c *postgres.Config) { c.Table = "a.b.c" }, `postgres.table: given "a.b.c"`},
		"quote in a name":  {func(c *postgres.Config) { c.Table = `a"b` }, "postgres.table: given"},
		"long name":        {func(c *postgres.Config) { c.Table = strings.Repeat("x", 64) }, "postgres.table: given"},
		"bad dead letter":  {func(c *postgres.Config) { c.DeadLetter = "a." }, `postgres.dead_letter: given "a."`},
		"same dead letter": {func(c *postgres.Config) { c.DeadLetter = c.Table }, `postgres.dead_letter: given "peald_outbox"; want a table other than`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			cfg := valid
			test.change(&cfg)
			err := cfg.Validate()
			if _, ok := errors.AsType[*source.SettingError](err); !ok || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}

// BenchmarkReader measures how fast a reader publishes and deletes rows.
func BenchmarkReader(b *testing.B) {
	server := sourcetest.StartPostgres(b)
	conn, database := server.NewDatabase(b, schema(""))
	if _, err := conn.Exec(b.Context(), "INSERT INTO peald_outbox (topic, data) SELECT 'topic' || n % 100, repeat('x', 100) FROM generate_series(1, $1) AS n", b.N); err != nil {
		b.Fatal(err)
	}

	events := broker.New(broker.Config{Shards: 1, QueueBytes: 1 << 20, History: broker.History{MaxEvents: 10_000, MaxBytes: 64 << 20}, IdempotencyWindow: 5 * time.Minute})
	defer events.Close()

	ctx, stop := context.WithCancel(b.Context())
	defer stop()

	manager := source.NewManager(source.Config{Publisher: source.LocalPublisher{Broker: events}})
	cfg := postgres.Config{URL: server.URL("postgres", database), Table: outbox.DefaultTable}
	manager.Reconfigure([]source.Source{{Name: "orders", Kind: cfg}})
	b.ResetTimer()
	var running sync.WaitGroup
	running.Go(func() { manager.Run(ctx) })
	if !pealdtest.Eventually(5*time.Minute, func() bool {
		all := manager.Statuses()
		return len(all) == 1 && all[0].Published >= int64(b.N)
	}) {
		b.Fatalf("status %+v", manager.Statuses())
	}
	b.StopTimer()
	stop()
	running.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
