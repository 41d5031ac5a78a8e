//go:build unix

package postgres_test

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/outbox"
	"github.com/peald/peald/internal/source/postgres"
	"github.com/peald/peald/internal/sourcetest"
	"github.com/peald/peald/internal/testbed"
)

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
		"documented statements":   testDocs,
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

	var log testbed.Log
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
	if !testbed.Eventually(eventually, func() bool { return manager.Statuses()[0].Lag.Records == 0 }) {
		t.Errorf("status %+v, want no lag", manager.Statuses()[0])
	}
}

// testRejectedRows checks that rows that can't be published are moved to the dead-letter
// table, or deleted if there is none, and delay no others.
func testRejectedRows(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	const rows = `INSERT INTO peald_outbox (topic, user_id, data) VALUES ('t', NULL, 'one'), ('a.*', NULL, 'private'), ('t', 'alice', 'private'),
		('t', NULL, 'two'), (NULL, NULL, 'private'), ('t', NULL, ''), ('t', NULL, 'three')`
	for _, deadLetter := range []string{"", "peald_rejected"} {
		conn, database := server.NewDatabase(t, schema("peald_rejected"))
		exec(t, conn, rows)

		var log testbed.Log
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

	var log testbed.Log
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

	var log testbed.Log
	to := &recorder{}
	run(t, to, postgres.Config{URL: server.URL("a_reader", database), Table: outbox.DefaultTable, DeadLetter: "peald_rejected"}, source.Map{}, &log)
	to.waitFor(t, "one")
	waitUntilEmpty(t, conn, "peald_outbox")
	if n := count(t, conn, "peald_rejected"); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}

// testLargeRows checks that batches are limited by size.
func testLargeRows(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	conn, database := server.NewDatabase(t, schema(""))
	exec(t, conn, `INSERT INTO peald_outbox (topic, data)
		SELECT 't', CASE WHEN n % 250 = 0 THEN repeat('x', 1048576 - 4) ELSE '' END || lpad(n::text, 4, '0') FROM generate_series(1, 5000) AS n`)

	var log testbed.Log
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

// testDocs runs the statements of docs/sources.md.
func testDocs(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	page, err := os.ReadFile("../../../docs/sources.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 3 {
		t.Fatalf("%d blocks of SQL, want privileges, a transaction, and a repetition", len(blocks))
	}

	conn, database := server.NewDatabase(t, schema("peald_rejected"), "CREATE ROLE peald LOGIN")
	exec(t, conn, blocks[0][1])
	exec(t, conn, blocks[1][1])

	var log testbed.Log
	to := &recorder{}
	run(t, to, postgres.Config{URL: server.URL("peald", database), Table: outbox.DefaultTable, DeadLetter: "peald_rejected"}, source.Map{}, &log)
	paid := `{"id":7,"state":"paid"}`
	to.waitFor(t, paid)

	exec(t, conn, "INSERT INTO peald_outbox (topic, data, ttl, retain) VALUES ('a.*', 'repeated', '1 hour', true)")
	if !testbed.Eventually(eventually, func() bool { return count(t, conn, "peald_rejected") == 1 }) {
		t.Fatal("no dead letter")
	}
	exec(t, conn, `UPDATE peald_rejected SET record = jsonb_set(record, '{topic}', '"a"')`)
	exec(t, conn, blocks[2][1])
	to.waitFor(t, paid, "repeated")
	if m := to.messages[1]; m.Audience != broker.ToTopic("a") || m.TTL != time.Hour || !m.Retain {
		t.Errorf("message %+v", m)
	}
}
