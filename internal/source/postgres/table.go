package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/peald/peald/internal/source/outbox"
)

// lockClass is the first half of the keys of the locks that active readers hold. The
// second half is the table's oid. The trigger's locks have the oid as the first half, so
// that the two don't conflict as long as no table has this number.
const lockClass = -0x7ea1d

// table describes the outbox and the dead-letter table.
type table struct {
	name       string // quoted
	deadLetter string // quoted; empty if there is none
	oid        uint32
	columns    []column // those that the mapping uses
	createdAt  bool     // the table has created_at
	ordered    bool     // the trigger assigns ids
}

// column is a column of the outbox.
type column struct {
	name       string
	expression string // the value as text
}

// lockKey returns the second half of the key of the active reader's lock.
func (t *table) lockKey() int32 { return int32(t.oid) }

// inspect checks that the tables have what the reader needs.
func (s *session) inspect() (*table, error) {
	ctx, cancel := context.WithTimeout(s.ctx, queryTimeout)
	defer cancel()

	var recovering bool
	if err := s.conn.QueryRow(ctx, "SELECT pg_catalog.pg_is_in_recovery()").Scan(&recovering); err != nil {
		return nil, fmt.Errorf("asking for the server's role: %w", err)
	}
	if recovering {
		return nil, errors.New("the server is a standby, which accepts no writes; add target_session_attrs=read-write to postgres.url and list all servers there")
	}

	t := new(table)
	var err error
	if t.name, t.oid, err = s.find(ctx, "postgres.table", s.reader.cfg.Table, "SELECT", "DELETE"); err != nil {
		return nil, err
	}
	if err := s.readColumns(ctx, t); err != nil {
		return nil, err
	}
	if s.reader.cfg.DeadLetter != "" {
		if err := s.inspectDeadLetter(ctx, t); err != nil {
			return nil, err
		}
	}

	err = s.conn.QueryRow(ctx, `SELECT EXISTS (
		SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
		WHERE t.tgrelid = $1 AND p.proname = $2 AND t.tgenabled IN ('O', 'A'))`, t.oid, outbox.TriggerFunction).Scan(&t.ordered)
	if err != nil {
		return nil, fmt.Errorf("looking for the trigger of %s: %w", t.name, err)
	}
	if !t.ordered {
		s.reader.log.Warn("outbox without trigger, order of concurrent transactions unknown", "table", s.reader.cfg.Table)
	}

	return t, nil
}

// find returns the quoted name and the oid of a table, and checks privileges for it.
func (s *session) find(ctx context.Context, setting, name string, privileges ...string) (quoted string, oid uint32, err error) {
	identifiers, ok := outbox.ParseTable(name)
	if !ok {
		return "", 0, fmt.Errorf("%s: %q isn't the name of a table", setting, name)
	}
	quoted = outbox.Quote(identifiers)

	var found *uint32
	var user, database string
	err = s.conn.QueryRow(ctx, "SELECT pg_catalog.to_regclass($1)::oid, current_user, current_database()", quoted).Scan(&found, &user, &database)
	if err != nil {
		return "", 0, fmt.Errorf("%s: looking for table %s: %w", setting, quoted, err)
	}
	if found == nil {
		return "", 0, fmt.Errorf("%s: there is no table %s in database %q, or user %q may not use its schema; "+
			"pealctl sources schema postgres prints the statements that create it", setting, quoted, database, user)
	}

	for _, privilege := range privileges {
		var has bool
		if err := s.conn.QueryRow(ctx, "SELECT pg_catalog.has_table_privilege($1::oid, $2)", *found, privilege).Scan(&has); err != nil {
			return "", 0, fmt.Errorf("%s: checking privileges on table %s: %w", setting, quoted, err)
		}
		if !has {
			return "", 0, fmt.Errorf("%s: user %q lacks the privilege %s on table %s", setting, user, privilege, quoted)
		}
	}

	return quoted, *found, nil
}

// readColumns finds the columns that the mapping uses.
func (s *session) readColumns(ctx context.Context, t *table) error {
	types, err := s.columnTypes(ctx, t)
	if err != nil {
		return err
	}
	if kind := types["id"]; kind != "int8" && kind != "int4" && kind != "int2" {
		return fmt.Errorf("postgres.table: table %s needs a column id of type bigint, by which its rows are ordered", t.name)
	}
	_, t.createdAt = types["created_at"]
	t.createdAt = t.createdAt && types["created_at"] == "timestamptz"

	used := s.sink.Fields()
	var missing []string
	for _, name := range used {
		kind, ok := types[name]
		if !ok {
			missing = append(missing, strconv.Quote(name))
			continue
		}
		t.columns = append(t.columns, newColumn(name, kind))
	}
	if len(missing) == 0 {
		return nil
	}

	var others []string
	for name := range types {
		if !slices.Contains(used, name) {
			others = append(others, strconv.Quote(name))
		}
	}
	slices.Sort(others)

	return fmt.Errorf("table %s has no column %s, which the source's map uses; it has %s as well",
		t.name, strings.Join(missing, ", "), strings.Join(others, ", "))
}

// columnTypes returns the names of the types of all columns.
func (s *session) columnTypes(ctx context.Context, t *table) (map[string]string, error) {
	rows, err := s.conn.Query(ctx, `SELECT a.attname::text, y.typname::text
		FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
		WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped`, t.oid)
	if err != nil {
		return nil, fmt.Errorf("reading the columns of %s: %w", t.name, err)
	}

	types := make(map[string]string)
	var name, kind string
	if _, err := pgx.ForEachRow(rows, []any{&name, &kind}, func() error {
		types[name] = kind
		return nil
	}); err != nil {
		return nil, fmt.Errorf("reading the columns of %s: %w", t.name, err)
	}

	return types, nil
}

// newColumn returns a column whose type has the given name.
func newColumn(name, kind string) column {
	quoted := pgx.Identifier{name}.Sanitize()
	if kind == "interval" {
		return column{name, "(extract(epoch FROM " + quoted + ")::text || 's')"} // as Go writes a duration
	}

	return column{name, quoted + "::text"}
}

// inspectDeadLetter checks the dead-letter table.
func (s *session) inspectDeadLetter(ctx context.Context, t *table) error {
	var err error
	const setting = "postgres.dead_letter"
	var oid uint32
	if t.deadLetter, oid, err = s.find(ctx, setting, s.reader.cfg.DeadLetter, "INSERT"); err != nil {
		return err
	}

	types, err := s.columnTypes(ctx, &table{name: t.deadLetter, oid: oid})
	if err != nil {
		return err
	}
	if types["record"] != "jsonb" || types["error"] != "text" {
		return fmt.Errorf("%s: table %s needs the columns record of type jsonb and error of type text", setting, t.deadLetter)
	}

	return nil
}

// connectError returns a description of an error from connecting. The original error
// may list several attempts over several lines.
func connectError(err error) error {
	if failure, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Errorf("connecting: %w", failure)
	}

	return fmt.Errorf("connecting: %s", strings.Join(strings.Fields(err.Error()), " "))
}
