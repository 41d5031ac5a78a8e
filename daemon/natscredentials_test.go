package daemon_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

// issuer creates accounts and users for a NATS server.
type issuer struct {
	operator, account nkeys.KeyPair
	resolver          *server.MemAccResolver
}

// keys creates a key pair.
func keys(t *testing.T, create func() (nkeys.KeyPair, error)) (pair nkeys.KeyPair, public string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return pair, public
}

// addAccount creates an account with or without JetStream.
func (c *issuer) addAccount(t *testing.T, mayStore bool) (pair nkeys.KeyPair, public string) {
	t.Helper()
	pair, public = keys(t, nkeys.CreateAccount)
	claims := jwt.NewAccountClaims(public)
	if mayStore {
		claims.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: 1 << 30, Streams: 1}
	}
	token, err := claims.Encode(c.operator)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.resolver.Store(public, token); err != nil {
		t.Fatal(err)
	}
	return pair, public
}

// file returns the credentials file of a new user with these permissions.
func (c *issuer) file(t *testing.T, publish, subscribe []string) string {
	t.Helper()

	user, public := keys(t, nkeys.CreateUser)
	claims := jwt.NewUserClaims(public)
	claims.Pub.Allow.Add(publish...)
	claims.Sub.Allow.Add(subscribe...)
	token, err := claims.Encode(c.account)
	if err != nil {
		t.Fatal(err)
	}

	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}

	content, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		t.Fatal(err)
	}

	file := filepath.Join(t.TempDir(), "peald.creds")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}

	return file
}

// natsWithAccounts starts a NATS server that requires credentials.
func natsWithAccounts(t *testing.T) (*server.Server, *issuer) {
	t.Helper()
	operator, public := keys(t, nkeys.CreateOperator)
	c := &issuer{operator: operator, resolver: new(server.MemAccResolver)}
	_, system := c.addAccount(t, false)
	c.account, _ = c.addAccount(t, true)
	s, err := server.NewServer(&server.Options{
		ServerName: "external", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, JetStream: true, StoreDir: t.TempDir(), MaxPayload: 2 << 20,
		TrustedOperators: []*jwt.OperatorClaims{jwt.NewOperatorClaims(public)}, AccountResolver: c.resolver, SystemAccount: system,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server is not ready")
	}
	return s, c
}

// TestNATSCredentials runs two nodes over a NATS server. Their user has only the
// permissions that docs/cluster.md requires. The server rejects the credentials
// of a third node.
func TestNATSCredentials(t *testing.T) {
	t.Parallel()

	s, c := natsWithAccounts(t)
	subscribe := []string{"peald.>", "_INBOX.>"}
	publish := slices.Clone(subscribe)
	for _, stream := range []string{"peald", "peald_retained"} {
		publish = append(publish, "$JS.API.STREAM.*."+stream, "$JS.API.STREAM.MSG.GET."+stream, "$JS.API.DIRECT.GET."+stream)
	}
	over := func(file string) func(*daemon.Config) {
		return func(cfg *daemon.Config) {
			cfg.Cluster.Mode, cfg.Cluster.URL, cfg.Cluster.CredentialsFile, cfg.Cluster.Replicas = daemon.ClusterNATS, s.ClientURL(), file, 1
		}
	}

	file := c.file(t, publish, subscribe)
	nodes := []*pealdtest.Daemon{pealdtest.Start(t, over(file)), pealdtest.Start(t, over(file))}
	for i, d := range nodes {
		d.WaitUntilReady(t)
		stream(t, client(t), d.Events(t, []string{"alice", "bob"}[i]))
	}

	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); ; {
		users, err := nodes[0].Control(t).ListUsers(t.Context(), &pealv1.ListUsersRequest{})
		if err == nil && len(users.GetUsers()) == 2 && len(users.GetMissingNodes()) == 0 {
			break
		}

		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the first node lists %v (%v), want the users of both nodes", users, err)
		}
	}

	lines := stream(t, client(t), nodes[1].Events(t, ""))
	if _, err := nodes[0].Control(t).Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "hello"}); err != nil {
		t.Fatal(err)
	}

	awaitLine(t, lines, "data: hello")

	// The third node has credentials for another server, and later valid ones.
	_, other := natsWithAccounts(t)
	file = other.file(t, publish, subscribe)
	third := pealdtest.Start(t, over(file))
	awaitReason(t, third, "no connection to NATS: nats: Authorization Violation")
	valid, err := os.ReadFile(c.file(t, publish, subscribe))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, valid, 0o600); err != nil {
		t.Fatal(err)
	}

	third.WaitUntilReady(t)
}

// awaitReason waits until a daemon reports why it isn't ready.
func awaitReason(t *testing.T, d *pealdtest.Daemon, want string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); ; {
		resp, err := http.Get(d.URL("/readyz"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(body), want) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("/readyz is %s, %q, want %q", resp.Status, body, want)
		}
	}
}
