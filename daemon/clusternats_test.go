package daemon_test

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

// documentedSubjects returns the subjects that a NATS user needs according to
// docs/cluster.md, for a cluster with this name.
func documentedSubjects(t *testing.T, what, name string) (subjects []string) {
	t.Helper()
	text, err := os.ReadFile("../docs/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| ` + what + ` \| (.*) \|$`).FindSubmatch(text)
	if row == nil {
		t.Fatalf("docs/cluster.md has no row %q", what)
	}
	for _, quoted := range regexp.MustCompile("`[^`]+`").FindAll(row[1], -1) {
		subjects = append(subjects, strings.ReplaceAll(strings.Trim(string(quoted), "`"), "NAME", name))
	}
	return subjects
}

// TestDocumentedPermissionsSuffice runs two daemons on an external NATS server,
// as a user that has the documented permissions and no others.
func TestDocumentedPermissionsSuffice(t *testing.T) {
	external, err := server.NewServer(&server.Options{
		ServerName: "external", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, JetStream: true, StoreDir: t.TempDir(),
		Users: []*server.User{{Username: "peald", Password: "secret", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: documentedSubjects(t, "publish", "shop")},
			Subscribe: &server.SubjectPermission{Allow: documentedSubjects(t, "subscribe", "shop")},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}

	external.Start()
	t.Cleanup(func() { external.Shutdown(); external.WaitForShutdown() })
	if !external.ReadyForConnections(patience) {
		t.Fatal("the NATS server is not ready")
	}

	onExternal := func(cfg *daemon.Config) {
		cfg.Cluster.Mode, cfg.Cluster.Name, cfg.Cluster.Replicas = daemon.ClusterNATS, "shop", 1
		cfg.Cluster.URL = strings.Replace(external.ClientURL(), "nats://", "nats://peald:secret@", 1)
	}

	a, b := pealdtest.Start(t, onExternal), pealdtest.Start(t, onExternal)
	a.WaitUntilReady(t)
	b.WaitUntilReady(t)
	asked := a.Control(t)
	lines := stream(t, client(t), b.Events(t, "alice"))
	until(t, func(ctx context.Context) (*pealv1.StatsResponse, error) {
		return asked.Stats(ctx, &pealv1.StatsRequest{})
	},
		func(r *pealv1.StatsResponse) bool {
			return len(r.GetNodes()) == 2 && len(r.GetMissingNodes()) == 0 && r.GetTotal().GetConnections() == 1
		})
	watching, err := asked.WatchConnections(t.Context(), &pealv1.WatchConnectionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if present, err := watching.Recv(); err != nil || present.GetPresent().GetUserId() != "alice" {
		t.Errorf("present are %v, %v", present, err)
	}

	until(t, func(ctx context.Context) (*pealv1.SendToUserResponse, error) {
		return asked.SendToUser(ctx, &pealv1.SendToUserRequest{UserId: "alice", Data: "over external servers"})
	}, func(r *pealv1.SendToUserResponse) bool { return r.GetRecipients() == 1 })
	awaitLine(t, lines, "data: over external servers")
	if ended, err := asked.Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "alice"}); err != nil || ended.GetConnections() != 1 {
		t.Errorf("%v, %v", ended, err)
	}
}
