package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/outbox"
)

const (
	// connectTimeout limits how long a connection attempt takes, unless the URL has a
	// connect_timeout.
	connectTimeout = 10 * time.Second
	// queryTimeout limits how long one statement takes.
	queryTimeout = 20 * time.Second
	// A reader that is stopped has grace to delete rows.
	grace = 3 * time.Second

	// lockInterval is the time between two attempts of a standby to become active.
	lockInterval = time.Second
	// The reader waits up to pollInterval for a notification.
	pollInterval = time.Second
	// pendingInterval replaces pollInterval while rows may be held back, since a
	// transaction that is rolled back sends no notification.
	pendingInterval = 50 * time.Millisecond
	// sweepInterval is how often the reader looks for rows that were inserted without
	// the trigger, with smaller ids than those that it has already read.
	sweepInterval = 10 * time.Second
	// reportInterval is how often the lag is measured. It also keeps the session from
	// being idle while messages can't be published.
	reportInterval = 5 * time.Second
)

// settings are applied to each session. The server ends a session whose client is gone:
// without keepalives it wouldn't notice that for hours, and the session would keep its
// lock.
const settings = `SELECT pg_catalog.set_config(name, value, false) FROM (VALUES
	('tcp_keepalives_idle', '5'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'),
	('tcp_user_timeout', '20000'), ('idle_session_timeout', '30000'), ('default_transaction_isolation', 'read committed')
) AS wanted (name, value) WHERE name IN (SELECT name FROM pg_catalog.pg_settings)`

// reader reads one outbox. It implements [source.Reader].
type reader struct {
	cfg  Config
	name string
	log  *slog.Logger
}

// session is one connection of a reader. It is owned by the goroutine that runs the
// reader.
type session struct {
	reader *reader
	conn   *pgx.Conn
	sink   *source.Sink
	table  *table

	// ctx ends some time after the reader has been stopped, so that rows whose messages
	// have been published are deleted.
	ctx context.Context //nolint:containedctx // It differs from the one that the reader is stopped with.

	notified bool // rows may have been inserted since the last fetch
	barriers barriers
	passed   int64     // rows up to this id have been read and deleted
	swept    time.Time // when passed was last ignored
	reported time.Time // when the lag was last reported
}

// Run implements [source.Reader].
func (r *reader) Run(ctx context.Context, sink *source.Sink) error {
	graceful, stop := source.WithGrace(ctx, grace)
	defer stop()

	s := &session{reader: r, sink: sink, ctx: graceful, passed: math.MinInt64}
	if err := s.connect(ctx); err != nil {
		return err
	}
	defer s.close()

	err := s.exec(settings)
	if err != nil {
		return fmt.Errorf("configuring the session: %w", err)
	}
	if s.table, err = s.inspect(); err != nil {
		return err
	}

	if err := s.awaitLock(ctx); err != nil {
		return err
	}
	if err := s.exec("SELECT pg_catalog.set_config('application_name', $1, false)", "peald "+r.name+" (active)"); err != nil {
		return fmt.Errorf("configuring the session: %w", err)
	}
	if err := s.listen(); err != nil {
		return err
	}
	sink.Active()

	return s.read(ctx)
}

// connect opens the connection.
func (s *session) connect(ctx context.Context) error {
	cfg, err := pgx.ParseConfig(s.reader.cfg.URL)
	if err != nil {
		return errors.New("postgres.url isn't valid") // the error may contain parts of the password
	}

	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	if _, given := cfg.RuntimeParams["application_name"]; !given {
		cfg.RuntimeParams["application_name"] = "peald " + s.reader.name
	}

	// One fetch serves any number of notifications, so they aren't queued. The function is
	// called while the session reads from the connection.
	cfg.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { s.notified = true }

	if s.conn, err = pgx.ConnectConfig(ctx, cfg); err != nil {
		return connectError(err)
	}

	return nil
}

// close closes the connection, which releases the lock.
func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()

	if err := s.conn.Close(ctx); err != nil {
		s.reader.log.Debug("connection to PostgreSQL not closed cleanly", "error", err)
	}
}

// exec executes a statement that returns nothing.
func (s *session) exec(sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(s.ctx, queryTimeout)
	defer cancel()

	_, err := s.conn.Exec(ctx, sql, args...)

	return err
}

// awaitLock waits until this is the only active reader of the table.
func (s *session) awaitLock(ctx context.Context) error {
	ticker := time.NewTicker(lockInterval)
	defer ticker.Stop()

	for {
		locked, err := s.tryLock()
		if err != nil || locked {
			return err
		}
		s.sink.Standby()

		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

func (s *session) tryLock() (locked bool, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, queryTimeout)
	defer cancel()

	err = s.conn.QueryRow(ctx, "SELECT pg_catalog.pg_try_advisory_lock($1, $2)", lockClass, s.table.lockKey()).Scan(&locked)
	if err != nil {
		return false, fmt.Errorf("acquiring the lock: %w", err)
	}

	return locked, nil
}

// listen subscribes to the trigger's notifications.
func (s *session) listen() error {
	ctx, cancel := context.WithTimeout(s.ctx, queryTimeout)
	defer cancel()

	var channel string
	if err := s.conn.QueryRow(ctx, "SELECT "+outbox.Channel("$1::oid"), s.table.oid).Scan(&channel); err != nil {
		return fmt.Errorf("listening for notifications: %w", err)
	}
	if _, err := s.conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return fmt.Errorf("listening for notifications: %w", err)
	}

	return nil
}

// read publishes and deletes rows until ctx ends or something fails.
func (s *session) read(ctx context.Context) error {
	for {
		s.notified = false
		b, err := s.fetch()
		if err != nil {
			return err
		}

		if len(b.records) == 0 {
			if err := s.reportIfDue(); err != nil {
				return err
			}
			if err := s.awaitRows(ctx); err != nil {
				return err
			}
			continue
		}

		settled, err := s.publish(ctx, b.records)
		if err := s.remove(b.ids[:settled.Count], settled.Rejected); err != nil {
			return err
		}
		if err != nil {
			return err
		}
		s.pass(b)
	}
}

// awaitRows waits for a notification, or until it is time to look for rows anyway.
func (s *session) awaitRows(ctx context.Context) error {
	if s.notified {
		return context.Cause(ctx)
	}

	interval := pollInterval
	if s.barriers.pending() {
		interval = pendingInterval
	}

	waiting, cancel := context.WithTimeout(ctx, interval)
	defer cancel()

	err := s.conn.PgConn().WaitForNotification(waiting)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && waiting.Err() == nil:
		return fmt.Errorf("waiting for rows: %w", err)
	}

	return nil
}

// publish publishes records. In the meantime, it keeps reporting the lag.
func (s *session) publish(ctx context.Context, records []source.Record) (settled source.Settled, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	done := make(chan struct{})
	go func() {
		defer close(done)
		settled, err = s.sink.Publish(ctx, records)
	}()

	ticker := time.NewTicker(reportInterval)
	defer ticker.Stop()

	for {
		select {
		case <-done:
			return settled, err
		case <-ticker.C:
			if err := s.report(); err != nil {
				cancel(err)
				<-done

				return settled, err
			}
		}
	}
}
