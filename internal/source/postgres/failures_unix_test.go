//go:build unix

package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/outbox"
	"github.com/peald/peald/internal/source/postgres"
	"github.com/peald/peald/internal/sourcetest"
	"github.com/peald/peald/internal/testbed"
)

// testStandby checks that only one reader is active, and that another one takes over.
func testStandby(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	conn, database := server.NewDatabase(t, schema(""))
	cfg := postgres.Config{URL: server.URL("postgres", database), Table: outbox.DefaultTable}

	var log testbed.Log
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
	var log testbed.Log
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

// testLostConnection checks that a reader continues after its connection is lost.
func testLostConnection(t *testing.T, server *sourcetest.Postgres) {
	t.Helper()

	conn, database := server.NewDatabase(t, schema(""))
	proxy := sourcetest.NewProxy(t, server.Addr)
	var log testbed.Log
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

			var log testbed.Log
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
	var log testbed.Log
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
