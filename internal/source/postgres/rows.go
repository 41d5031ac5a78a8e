package postgres

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/outbox"
)

const (
	// maxRows and maxBytes limit a batch. A single row may be larger than maxBytes.
	maxRows  = 2000
	maxBytes = 4 << 20

	// maxCounted is the number of rows up to which the lag is counted. Beyond that, it is
	// estimated from the ids, because counting would take too long.
	maxCounted = 50_000
)

// batch is a number of rows in the order of their ids.
type batch struct {
	ids     []int64
	records []source.Record
}

// fetch reads the next rows that no transaction can precede any more.
func (s *session) fetch() (b batch, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, queryTimeout)
	defer cancel()

	if s.table.ordered {
		if err := s.advance(ctx); err != nil {
			return b, err
		}
	}

	after := s.passed
	if time.Since(s.swept) > sweepInterval {
		after, s.swept = math.MinInt64, time.Now()
	}

	sql, args := s.table.query(after, &s.barriers)
	rows, err := s.conn.Query(ctx, sql, args...)
	if err != nil {
		return b, fmt.Errorf("reading rows: %w", err)
	}
	defer rows.Close()

	for rows.Next() {
		if err := s.scan(rows, &b); err != nil {
			return b, err
		}
	}
	if err := rows.Err(); err != nil {
		return b, fmt.Errorf("reading rows: %w", err)
	}
	if len(b.ids) == 0 {
		s.pass(b)
	}

	return b, nil
}

// advance updates the barriers. The holders must be read after the largest id, in a
// statement of its own.
func (s *session) advance(ctx context.Context) error {
	var largest int64
	err := s.conn.QueryRow(ctx, "SELECT coalesce(max(id), 0) FROM "+s.table.name).Scan(&largest)
	if err != nil {
		return fmt.Errorf("reading the largest id: %w", err)
	}

	rows, err := s.conn.Query(ctx, `SELECT objid::bigint, virtualtransaction, virtualtransaction LIKE '-1/%'
		FROM pg_catalog.pg_locks
		WHERE locktype = 'advisory' AND classid = $1 AND objsubid = 2
		AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())`, s.table.oid)
	if err != nil {
		return fmt.Errorf("reading the locks of open transactions: %w", err)
	}

	var (
		holders []holder
		h       holder
		bucket  int64
	)
	if _, err := pgx.ForEachRow(rows, []any{&bucket, &h.transaction, &h.prepared}, func() error {
		if h.bucket = int(bucket); bucket >= 0 && bucket < outbox.Buckets {
			holders = append(holders, h)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("reading the locks of open transactions: %w", err)
	}
	s.barriers.advance(largest, holders)

	return nil
}

// query returns the statement that reads the next batch of rows with ids above after.
func (t *table) query(after int64, b *barriers) (sql string, args []any) {
	at := "0::bigint"
	if t.createdAt {
		at = "(extract(epoch FROM created_at) * 1000000)::bigint"
	}

	names, values, sizes := []string{"id", "at"}, []string{"id", at + " AS at"}, []string{"0"}
	for i, c := range t.columns {
		name := "c" + strconv.Itoa(i)
		names = append(names, name)
		values = append(values, c.expression+" AS "+name)
		sizes = append(sizes, "coalesce(octet_length("+name+"), 0)")
	}

	args = []any{after, maxRows, maxBytes}
	complete := ""
	if t.ordered {
		args = append(args, b.complete[:])
		complete = " AND id <= ($4::bigint[])[1 + " + outbox.Bucket("") + "]"
	}

	// The window adds up the sizes of the rows before each row.
	sql = fmt.Sprintf(`SELECT %[1]s FROM (
		SELECT %[1]s, sum(%[2]s) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM (
			SELECT %[3]s FROM %[4]s WHERE id > $1::bigint%[5]s ORDER BY id LIMIT $2
		) AS ready
	) AS sized WHERE coalesce(before, 0) < $3 ORDER BY id`,
		strings.Join(names, ", "), strings.Join(sizes, " + "), strings.Join(values, ", "), t.name, complete)

	return sql, args
}

// scan adds the current row to b.
func (s *session) scan(rows pgx.Rows, b *batch) error {
	values := rows.RawValues()
	if len(values) != 2+len(s.table.columns) {
		return fmt.Errorf("reading rows: %d columns; want %d", len(values), 2+len(s.table.columns))
	}

	var id, at int64
	targets := make([]any, len(values))
	targets[0], targets[1] = &id, &at
	if err := rows.Scan(targets...); err != nil {
		return fmt.Errorf("reading rows: %w", err)
	}

	// Ids start over if the table is truncated or created anew.
	record := source.Record{Origin: s.reader.cfg.Table, Offset: strconv.FormatInt(id, 10) + "@" + strconv.FormatInt(at, 10)}
	record.Fields = make([]source.Field, 0, len(s.table.columns))
	for i, c := range s.table.columns {
		if value := values[2+i]; value != nil {
			record.Fields = append(record.Fields, source.Field{Name: c.name, Value: string(value)})
		}
	}
	b.ids, b.records = append(b.ids, id), append(b.records, record)

	return nil
}

// pass notes that all rows up to and including a batch have been read and deleted. An
// empty batch means that no row was ready.
func (s *session) pass(b batch) {
	if !s.table.ordered {
		return
	}

	complete := s.barriers.smallest()
	if n := len(b.ids); n > 0 {
		complete = min(complete, b.ids[n-1])
	}
	s.passed = max(s.passed, complete)
}

// remove deletes rows. Those that were rejected are moved to the dead-letter table, if
// there is one.
func (s *session) remove(ids []int64, rejected []source.Rejected) error {
	if len(ids) == 0 {
		return nil
	}
	if len(rejected) == 0 || s.table.deadLetter == "" {
		if err := s.exec("DELETE FROM "+s.table.name+" WHERE id = ANY($1)", ids); err != nil {
			return fmt.Errorf("deleting rows: %w", err)
		}
		return nil
	}

	var failed []int64
	var reasons []string
	for _, r := range rejected {
		failed, reasons = append(failed, ids[r.Index]), append(reasons, r.Err.Error())
	}
	err := s.exec(`WITH gone AS (DELETE FROM `+s.table.name+` WHERE id = ANY($1) RETURNING *)
		INSERT INTO `+s.table.deadLetter+` (record, error)
		SELECT to_jsonb(gone), why.error FROM gone JOIN unnest($2::bigint[], $3::text[]) AS why (id, error) USING (id) ORDER BY id`,
		ids, failed, reasons)
	if err != nil {
		return fmt.Errorf("moving rows to the dead-letter table: %w", err)
	}

	return nil
}

// reportIfDue reports the lag, unless that was done recently.
func (s *session) reportIfDue() error {
	if time.Since(s.reported) < reportInterval {
		return nil
	}

	return s.report()
}

// report measures and reports the lag.
func (s *session) report() error {
	ctx, cancel := context.WithTimeout(s.ctx, queryTimeout)
	defer cancel()

	at := "NULL::timestamptz"
	if s.table.createdAt {
		at = "created_at"
	}
	var (
		counted, span int64
		since         *time.Time
	)
	err := s.conn.QueryRow(ctx, fmt.Sprintf(`SELECT (SELECT count(*) FROM (SELECT FROM %[1]s LIMIT $1) AS first),
		(SELECT coalesce(max(id) - min(id) + 1, 0) FROM %[1]s), (SELECT %[2]s FROM %[1]s ORDER BY id LIMIT 1)`, s.table.name, at), maxCounted).
		Scan(&counted, &span, &since)
	if err != nil {
		return fmt.Errorf("measuring the lag: %w", err)
	}

	lag := source.Lag{Records: counted}
	if counted == maxCounted {
		lag.Records = max(counted, span)
	}
	if since != nil {
		lag.Since = *since
	}
	s.reported = time.Now()
	s.sink.ReportLag(lag)

	return nil
}
