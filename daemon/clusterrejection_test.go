package daemon_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// TestRejectedNodeNamesTheSetting starts two daemons that reject each other as
// nodes. Both must name the setting that differs, wherever an operator or a
// client looks.
func TestRejectedNodeNamesTheSetting(t *testing.T) {
	t.Parallel()

	authority, another := testbed.NewCertificate(t), testbed.NewCertificate(t)
	withTLS := func(c *daemon.Cluster, own testbed.Certificate) {
		c.TLS = daemon.ClusterTLS{CertFile: own.CertFile, KeyFile: own.KeyFile, CAFile: own.CertFile}
	}

	for name, test := range map[string]struct {
		tls    bool // both daemons have the same certificate
		change func(second *daemon.Cluster)
		names  string
	}{
		"another secret":             {false, func(c *daemon.Cluster) { c.Secret = "another" }, "cluster.secret"},
		"no secret":                  {false, func(c *daemon.Cluster) { c.Secret = "" }, "cluster.secret"},
		"another name":               {false, func(c *daemon.Cluster) { c.Name = "another" }, "cluster.name"},
		"TLS":                        {false, func(c *daemon.Cluster) { withTLS(c, authority) }, "cluster.tls"},
		"another secret, with TLS":   {true, func(c *daemon.Cluster) { c.Secret = "another" }, "cluster.secret"},
		"another name, with TLS":     {true, func(c *daemon.Cluster) { c.Name = "another" }, "cluster.name"},
		"another authority, for TLS": {true, func(c *daemon.Cluster) { withTLS(c, another) }, "cluster.tls"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			encrypt := func(cfg *daemon.Config) {
				if test.tls {
					withTLS(&cfg.Cluster, authority)
				}
			}
			member := pealdtest.InCluster(t, 2)
			daemons := []*pealdtest.Daemon{
				pealdtest.Start(t, member[0], encrypt),
				pealdtest.Start(t, member[1], encrypt, func(cfg *daemon.Config) { test.change(&cfg.Cluster) }),
			}

			for _, d := range daemons {
				awaitSetting(t, d, test.names)
			}
		})
	}
}

// awaitSetting waits until readiness, errors for publishers and stats of a daemon
// name the setting.
func awaitSetting(t *testing.T, d *pealdtest.Daemon, setting string) {
	t.Helper()
	until(t, func(ctx context.Context) (string, error) { return readiness(ctx, t, d) },
		func(text string) bool { return strings.Contains(text, setting) })
	control := d.Control(t)
	until(t, func(ctx context.Context) (error, error) {
		_, err := control.Broadcast(ctx, &pealv1.BroadcastRequest{Data: "x"})
		return err, nil
	}, func(err error) bool {
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), setting)
	})
	until(t, func(ctx context.Context) (*pealv1.StatsResponse, error) {
		return control.Stats(ctx, &pealv1.StatsRequest{})
	}, func(r *pealv1.StatsResponse) bool {
		return len(r.GetNodes()) == 1 && strings.Contains(r.GetNodes()[0].GetReason(), setting)
	})
}

// readiness returns the body of /readyz of a daemon that isn't ready.
func readiness(ctx context.Context, t *testing.T, d *pealdtest.Daemon) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.URL("/readyz"), http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := client(t).Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode == http.StatusOK {
		t.Fatal("the daemon is ready")
	}
	return string(body), err
}
