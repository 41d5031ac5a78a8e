//go:build unix

package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/peald/peald/internal/testbed"
)

// WithPassword is the only role that needs a password. Tests must create it.
const WithPassword = "with_password"

// patience is the time limit for operations that take seconds on an idle machine.
const patience = 2 * time.Minute

// Postgres is a PostgreSQL server on a loopback address, which any local user may connect
// to as any role. Its methods must not be called concurrently.
type Postgres struct {
	// Addr is the server's HOST:PORT, which stays the same when it is restarted.
	Addr string

	program    string
	dir        string
	credential *syscall.Credential // nil to run as the current user
	log        testbed.Log
	cmd        *exec.Cmd
	exited     chan struct{}
}

// StartPostgres starts a new server, which is removed after the test. If PostgreSQL isn't
// installed, the test is skipped, or fails if CI is set.
func StartPostgres(tb testing.TB) *Postgres {
	tb.Helper()

	addr, err := testbed.FreeAddr()
	if err != nil {
		tb.Fatal(err)
	}

	p := &Postgres{Addr: addr, program: findServer(tb), credential: unprivileged(tb)}
	p.dir = ownedDir(tb, p.credential)

	// The superuser has a name of its own, since the current user's isn't known everywhere.
	initdb := p.command(filepath.Join(filepath.Dir(p.program), "initdb"), "--no-sync", "--auth=trust", "--username=postgres",
		"--encoding=UTF8", "--locale=C", "--pgdata="+p.data())
	if out, err := initdb.CombinedOutput(); err != nil {
		tb.Fatalf("initdb: %v\n%s", err, out)
	}
	p.requirePassword(tb)

	tb.Cleanup(func() {
		p.end(syscall.SIGQUIT)
		if tb.Failed() {
			text := p.log.String()
			tb.Logf("end of the log of PostgreSQL:\n%s", text[max(0, len(text)-4000):])
		}
	})
	p.Start(tb)

	return p
}

// findServer returns the path of the newest installed server.
func findServer(tb testing.TB) string {
	tb.Helper()

	// Debian keeps the servers of all versions out of the path.
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	if len(found) > 0 {
		return found[0]
	}

	path := testbed.Program(tb, "postgres")
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}

	return path
}

func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))

	return n
}

// unprivileged returns the user that servers run as, because PostgreSQL doesn't run as
// root. It returns nil if the test doesn't run as root.
func unprivileged(tb testing.TB) *syscall.Credential {
	tb.Helper()

	if os.Geteuid() != 0 {
		return nil
	}

	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if errors.Join(uidErr, gidErr) == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	testbed.Missingf(tb, "there is no unprivileged user to run PostgreSQL")

	return nil
}

// ownedDir creates a directory that belongs to a user, and removes it after the test.
func ownedDir(tb testing.TB, credential *syscall.Credential) string {
	tb.Helper()

	//nolint:usetesting // other users may not search the directories of a test
	dir, err := os.MkdirTemp("", "peald-test-")
	if err == nil && credential != nil {
		err = os.Chown(dir, int(credential.Uid), int(credential.Gid))
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})

	return dir
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

// requirePassword makes the server require a password from WithPassword.
func (p *Postgres) requirePassword(tb testing.TB) {
	tb.Helper()

	path := filepath.Join(p.data(), "pg_hba.conf")
	rules, err := os.ReadFile(path) //nolint:gosec // a directory of the test
	if err == nil {
		rules = append([]byte("host all "+WithPassword+" all scram-sha-256\n"), rules...)
		err = os.WriteFile(path, rules, 0o600) //nolint:gosec // as above
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func (p *Postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...) //nolint:gosec,noctx // programs of the installed server; runs until end
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential}

	return cmd
}

// Start starts the server again, and waits until it accepts connections.
func (p *Postgres) Start(tb testing.TB) {
	tb.Helper()

	host, port, err := net.SplitHostPort(p.Addr)
	if err != nil {
		tb.Fatal(err)
	}

	// After a kill, the server doesn't start before the last of its processes has ended.
	started := testbed.Eventually(patience, func() bool {
		if p.cmd != nil {
			select {
			case <-p.exited:
			default:
				return p.answers()
			}
		}

		p.cmd = p.command(p.program, "-D", p.data(), "-h", host, "-p", port, "-k", "",
			"-c", "fsync=off", "-c", "shared_buffers=32MB", "-c", "max_prepared_transactions=5", "-c", "timezone=UTC")
		p.cmd.Stderr = &p.log
		if err := p.cmd.Start(); err != nil {
			tb.Errorf("start PostgreSQL: %v", err)

			return true
		}
		p.exited = make(chan struct{})
		go func(cmd *exec.Cmd, exited chan struct{}) {
			defer close(exited)

			_ = cmd.Wait()
		}(p.cmd, p.exited)

		return false
	})
	if !started {
		tb.Fatalf("PostgreSQL doesn't accept connections after %s", patience)
	}
}

// answers reports whether the server accepts connections.
func (p *Postgres) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()

	conn, err := pgx.Connect(ctx, p.URL("postgres", "postgres"))
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close(ctx) }()

	return conn.Ping(ctx) == nil
}

// Kill kills the server.
func (p *Postgres) Kill() { p.end(syscall.SIGKILL) }

// Restart restarts the server, which aborts all transactions.
func (p *Postgres) Restart(tb testing.TB) {
	tb.Helper()
	p.end(syscall.SIGINT)
	p.Start(tb)
}

func (p *Postgres) end(sig syscall.Signal) {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}

	_ = p.cmd.Process.Signal(sig)
	<-p.exited
}

// URL returns the URL of a database for a role.
func (p *Postgres) URL(role, database string) string { return PostgresURL(p.Addr, role, database) }

// PostgresURL returns the URL of a database for a role, on the server at addr.
func PostgresURL(addr, role, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Host: addr, Path: database, RawQuery: "sslmode=disable"}

	return u.String()
}

// Connect opens a connection as superuser. It is closed after the test.
func (p *Postgres) Connect(tb testing.TB, database string) *pgx.Conn {
	tb.Helper()

	conn, err := pgx.Connect(tb.Context(), p.URL("postgres", database))
	if err != nil {
		tb.Fatalf("connect to PostgreSQL: %v", err)
	}
	tb.Cleanup(func() { _ = conn.Close(context.Background()) })

	return conn
}

// NewDatabase creates a database and runs the statements in it. It returns a connection
// to the database and its name.
func (p *Postgres) NewDatabase(tb testing.TB, statements ...string) (conn *pgx.Conn, name string) {
	tb.Helper()

	name = fmt.Sprintf("test%d", time.Now().UnixNano())
	if _, err := p.Connect(tb, "postgres").Exec(tb.Context(), "CREATE DATABASE "+name); err != nil {
		tb.Fatalf("create a database: %v", err)
	}

	conn = p.Connect(tb, name)
	for _, statement := range statements {
		if _, err := conn.Exec(tb.Context(), statement); err != nil {
			tb.Fatalf("%.60s: %v", statement, err)
		}
	}

	return conn, name
}
