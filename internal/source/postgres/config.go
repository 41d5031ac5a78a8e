// Package postgres reads messages from a table in PostgreSQL, the outbox
// ([github.com/peald/peald/internal/source/outbox]). Rows are deleted once their messages
// are published.
//
// One connection does everything: it holds a session-level advisory lock, which makes
// this the only active reader of the table, listens for notifications, and reads and
// deletes rows. So the lock can't outlive the connection that deletes rows, and a reader
// whose connection is lost can't delete anything.
package postgres

import (
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/outbox"
)

// Config holds the settings of a source in PostgreSQL.
type Config struct {
	// URL is a URL or a list of parameters, as for libpq. It is secret.
	URL string
	// Table is the outbox, with or without a schema.
	Table string
	// DeadLetter is the table for rows that can't be published; empty to delete them.
	DeadLetter string
}

// Kind implements [source.Kind].
func (Config) Kind() string { return "postgres" }

// Validate implements [source.Kind].
func (c Config) Validate() error {
	if _, err := pgx.ParseConfig(c.URL); c.URL == "" || err != nil {
		given := "***"
		if c.URL == "" {
			given = `""`
		}
		return &source.SettingError{Field: "postgres.url", Given: given,
			Want: "a URL such as postgres://USER:PASSWORD@HOST:5432/DATABASE, or parameters such as host=HOST dbname=DATABASE"}
	}

	const wantTable = "the name of a table, with or without a schema, such as peald_outbox or app.peald_outbox"
	if _, ok := outbox.ParseTable(c.Table); !ok {
		return &source.SettingError{Field: "postgres.table", Given: strconv.Quote(c.Table), Want: wantTable}
	}
	if c.DeadLetter != "" {
		if _, ok := outbox.ParseTable(c.DeadLetter); !ok {
			return &source.SettingError{Field: "postgres.dead_letter", Given: strconv.Quote(c.DeadLetter), Want: wantTable}
		}
		if c.DeadLetter == c.Table {
			return &source.SettingError{Field: "postgres.dead_letter", Given: strconv.Quote(c.DeadLetter), Want: "a table other than postgres.table"}
		}
	}

	return nil
}

// Schema implements [source.Kind].
func (Config) Schema() source.Schema {
	return source.Schema{
		Origin: "table",
		Field:  "column",
		Default: source.Map{
			Topic:          "{column.topic}",
			UserID:         "{column.user_id}",
			Everyone:       "{column.everyone}",
			Event:          "{column.event}",
			Data:           "{column.data}",
			IdempotencyKey: "{column.idempotency_key}",
			TTL:            "{column.ttl}",
			ConflateKey:    "{column.conflate_key}",
			Retain:         "{column.retain}",
		},
	}
}

// NewReader implements [source.Kind].
func (c Config) NewReader(o source.Options) source.Reader {
	return &reader{cfg: c, name: o.Name, log: o.Logger}
}
