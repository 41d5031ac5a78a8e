// Package outbox defines the PostgreSQL table from which peald publishes: its columns,
// and the trigger that makes its order known.
//
// # Order
//
// Ids are assigned when a row is inserted, but the row becomes visible when its
// transaction commits. Of two rows for one topic, the later one may become visible first.
// The trigger therefore takes a shared advisory lock before it assigns an id, and the
// transaction holds the lock until it ends. The lock's key is the row's bucket, a hash of
// its audience. Shared locks don't conflict, so writers never wait for each other. A
// reader that sees who holds these locks knows which buckets may still get rows with
// smaller ids than those it sees.
package outbox

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// DefaultTable is the name of the table.
	DefaultTable = "peald_outbox"

	// Buckets is the number of buckets. It is small because each bucket that a
	// transaction writes to takes a slot in the server's lock table, which is shared by
	// all sessions (max_locks_per_transaction).
	Buckets = 64

	// TriggerFunction is the name of the trigger's function.
	TriggerFunction = "peald_outbox_number"
)

// Bucket returns an SQL expression for the bucket of a row. The prefix is put before the
// names of columns, such as "new.".
func Bucket(prefix string) string {
	return fmt.Sprintf("(hashtext(coalesce('t' || %[1]stopic, 'u' || %[1]suser_id, 'e')) & %[2]d)", prefix, Buckets-1)
}

// Channel returns an SQL expression for the name of the channel on which the trigger
// notifies the reader. Table is an expression for the table's oid.
func Channel(table string) string { return "'peald_outbox_' || " + table + "::text" }

// ParseTable splits the name of a table, with or without a schema, into identifiers. The
// names are case-sensitive. It returns false if name isn't valid.
func ParseTable(name string) (identifiers []string, ok bool) {
	identifiers = strings.Split(name, ".")
	if len(identifiers) > 2 {
		return nil, false
	}

	for _, id := range identifiers {
		// PostgreSQL cuts off identifiers that are longer.
		if id == "" || len(id) > 63 || strings.ContainsAny(id, "\x00\"'") {
			return nil, false
		}
	}

	return identifiers, true
}

// Quote returns identifiers as SQL.
func Quote(identifiers []string) string {
	return `"` + strings.Join(identifiers, `"."`) + `"`
}

// Schema returns the SQL statements that create the table and its trigger, and the
// dead-letter table, unless its name is nil.
func Schema(table, deadLetter []string) string {
	name := table[len(table)-1]
	inSchema := func(name string) string {
		return Quote(append(slices.Clone(table[:len(table)-1]), name))
	}

	text := strings.NewReplacer(
		"TABLE_NAME", Quote(table),
		"SEQUENCE_NAME", inSchema(name+"_id_seq"),
		"NUMBER_FUNCTION", inSchema(TriggerFunction),
		"NOTIFY_FUNCTION", inSchema("peald_outbox_notify"),
		"SEQUENCE_ARGUMENT", name+"_id_seq",
		"BUCKET", Bucket("new."),
		"CHANNEL", Channel("tg_relid"),
	).Replace(schema)
	if deadLetter != nil {
		text += strings.ReplaceAll(deadLetterSchema, "TABLE_NAME", Quote(deadLetter))
	}

	return text
}

const schema = `-- The table from which peald publishes messages. Insert a row in the transaction that
-- makes the change; peald deletes the row once the message is published.
CREATE SEQUENCE SEQUENCE_NAME;
CREATE TABLE TABLE_NAME (
    id              bigint      PRIMARY KEY,            -- assigned by a trigger
    topic           text,                               -- set exactly one of topic,
    user_id         text,                               -- user_id
    everyone        boolean     NOT NULL DEFAULT false, -- and everyone
    event           text,
    data            text        NOT NULL,
    idempotency_key text,
    ttl             interval,
    conflate_key    text,
    retain          boolean     NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
ALTER SEQUENCE SEQUENCE_NAME OWNED BY TABLE_NAME.id;

-- Assigns ids. The advisory lock is shared, so writers don't wait for each other. It
-- shows peald which audiences may still get rows with smaller ids from transactions that
-- haven't ended.
CREATE OR REPLACE FUNCTION NUMBER_FUNCTION() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(tg_relid::integer, BUCKET);
    new.id := nextval(format('%I.%I', tg_table_schema, tg_argv[0])::regclass);
    RETURN new;
END
$$;

CREATE TRIGGER peald_outbox_number BEFORE INSERT ON TABLE_NAME
    FOR EACH ROW EXECUTE FUNCTION NUMBER_FUNCTION('SEQUENCE_ARGUMENT');

-- Wakes peald. Without this trigger, peald finds new rows within a second.
CREATE OR REPLACE FUNCTION NOTIFY_FUNCTION() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify(CHANNEL, '');
    RETURN NULL;
END
$$;

CREATE TRIGGER peald_outbox_notify AFTER INSERT ON TABLE_NAME
    FOR EACH STATEMENT EXECUTE FUNCTION NOTIFY_FUNCTION();
`

const deadLetterSchema = `
-- The table to which peald moves rows that can't be published.
CREATE TABLE TABLE_NAME (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    record      jsonb       NOT NULL,
    error       text        NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT now()
);
`
