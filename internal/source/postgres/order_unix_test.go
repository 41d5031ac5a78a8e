//go:build unix

package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/outbox"
	"github.com/peald/peald/internal/source/postgres"
	"github.com/peald/peald/internal/sourcetest"
	"github.com/peald/peald/internal/testbed"
)

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

	var log testbed.Log
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

	var log testbed.Log
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

	var log testbed.Log
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

// testRowsWithoutTrigger checks that rows are found although their ids are smaller than
// those of rows that have been published.
func testRowsWithoutTrigger(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	conn, database := server.NewDatabase(t, schema(""))
	var log testbed.Log
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
