package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

func TestCluster(t *testing.T) {
	daemons := pealdtest.StartCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	publishing, err := daemons[0].Control(t).PublishStream(ctx)
	if err != nil {
		t.Fatal(err)
	}

	const messages = 1000
	go func() {
		for i := range messages {
			_ = publishing.Send(&pealv1.PublishStreamRequest{
				Audience: &pealv1.PublishStreamRequest_Everyone{Everyone: true}, Data: fmt.Sprint(i),
			})
		}

		_ = publishing.CloseSend()
	}()
	acked, last := int64(0), ""
	for acked < messages {
		resp, err := publishing.Recv()
		if err != nil {
			t.Fatalf("after %d acknowledgements: %v", acked, err)
		}

		for _, ack := range resp.GetAcks() {
			if acked++; ack.GetNumber() != acked || ack.GetError() != nil || ack.GetId() == last {
				t.Fatalf("acknowledgement %d is %v", acked, ack)
			}

			last = ack.GetId()
		}
	}

	// Streams resume on each node after the last id, and then get new events.
	reply, err := daemons[1].Control(t).Broadcast(ctx, &pealv1.BroadcastRequest{Data: "next"})
	if err != nil {
		t.Fatal(err)
	}

	for _, d := range daemons {
		lines := stream(t, client(t), d.Events(t, "")+"?last_event_id="+last)
		awaitLine(t, lines, "id: "+last) // the starting point
		awaitLine(t, lines, "id: "+reply.GetId())
		awaitLine(t, lines, "data: next")
	}
}

func TestPublishingRequiresACluster(t *testing.T) {
	d := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.Cluster.Mode, cfg.Cluster.Dir = daemon.ClusterEmbedded, t.TempDir()
		cfg.Cluster.Addr, cfg.Cluster.Peers = "127.0.0.1:0", []string{"127.0.0.1:1", "127.0.0.1:2"}
	})
	_, err := d.Control(t).Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "x"})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("publishing got %v, want %v", err, codes.Unavailable)
	}
}

func TestClusterDirIsLocked(t *testing.T) {
	dir := t.TempDir()
	alone := func(cfg *daemon.Config) { cfg.Cluster.Mode, cfg.Cluster.Dir = daemon.ClusterEmbedded, dir }
	d := pealdtest.Start(t, alone)
	cfg := daemon.Defaults()
	cfg.SSE.Addr, cfg.GRPC.Addr, cfg.REST.Addr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	alone(&cfg)
	err := daemon.Run(t.Context(), cfg, daemon.Options{Ready: func(daemon.Addresses) error { return errors.New("started") }})
	rejected, ok := errors.AsType[*daemon.SettingError](err)
	if !ok || rejected.Key != "cluster.dir" || !strings.Contains(rejected.Given, strconv.Quote(dir)) || strings.Contains(err.Error(), "\n") {
		t.Errorf("a second daemon with the directory gets %v", err)
	}
	d.WaitUntilReady(t) // the first daemon isn't affected
	d.Stop(t)
	pealdtest.Start(t, alone).WaitUntilReady(t)
}

func TestClusterSettings(t *testing.T) {
	t.Parallel()

	alone := daemon.Cluster{Mode: "embedded", Name: "peald", Addr: ":6222", Dir: "/var/lib/peald"}
	three := alone
	three.Peers, three.Secret = []string{"10.0.0.1:6222", "peald.internal:6222"}, "shared"
	nats := daemon.Cluster{Mode: "nats", Name: "peald", URL: "nats://10.0.0.1:4222,tls://nats.internal:4222"}
	for name, test := range map[string]struct {
		from   daemon.Cluster
		change func(*daemon.Cluster)
		key    string // of the error; empty for none
		text   string // part of the error
	}{
		"alone":              {alone, func(*daemon.Cluster) {}, "", ""},
		"three":              {three, func(*daemon.Cluster) {}, "", ""},
		"nats":               {nats, func(*daemon.Cluster) {}, "", ""},
		"unknown mode":       {alone, func(c *daemon.Cluster) { c.Mode = "raft" }, "cluster.mode", "off, embedded or nats"},
		"peers without mode": {three, func(c *daemon.Cluster) { c.Mode = "off" }, "cluster.peers", "with cluster.mode off; want cluster.mode embedded or nats"},
		"name with a dot":    {three, func(c *daemon.Cluster) { c.Name = "a.b" }, "cluster.name", `given "a.b"`},
		"no directory":       {three, func(c *daemon.Cluster) { c.Dir = "" }, "cluster.dir", "given nothing"},
		"exposed":            {three, func(c *daemon.Cluster) { c.Secret = "" }, "cluster.addr", "cluster.secret or cluster.tls"},
		"loopback only":      {three, func(c *daemon.Cluster) { c.Secret, c.Addr = "", "127.0.0.1:6222" }, "", ""},
		"peer without port":  {three, func(c *daemon.Cluster) { c.Peers = []string{"10.0.0.1"} }, "cluster.peers", `given "10.0.0.1"`},
		"advertised":         {three, func(c *daemon.Cluster) { c.Advertise = "203.0.113.2:6222" }, "", ""},
		"advertised host":    {three, func(c *daemon.Cluster) { c.Advertise = "203.0.113.2" }, "cluster.advertise", `given "203.0.113.2"`},
		"advertised port":    {three, func(c *daemon.Cluster) { c.Advertise = ":6222" }, "cluster.advertise", `given ":6222"`},
		"advertised alone":   {alone, func(c *daemon.Cluster) { c.Advertise = "203.0.113.2:6222" }, "cluster.advertise", "cluster.peers too"},
		"advertised to NATS": {nats, func(c *daemon.Cluster) { c.Advertise = "203.0.113.2:6222" }, "cluster.advertise", "want cluster.mode embedded"},
		"many replicas":      {three, func(c *daemon.Cluster) { c.Replicas = 6 }, "cluster.replicas", "given 6; want 1 to 5"},
		"replicas of one":    {alone, func(c *daemon.Cluster) { c.Replicas = 3 }, "cluster.replicas", "without cluster.peers"},
		"half a certificate": {three, func(c *daemon.Cluster) { c.TLS.CertFile = "cert.pem" }, "cluster.tls.cert_file", "both or neither"},
		"no authority":       {three, func(c *daemon.Cluster) { c.TLS.CertFile, c.TLS.KeyFile = "cert.pem", "key.pem" }, "cluster.tls.ca_file", "all three"},
		"both engines":       {three, func(c *daemon.Cluster) { c.URL = nats.URL }, "cluster.url", "want cluster.mode nats"},
		"no servers":         {nats, func(c *daemon.Cluster) { c.URL = "" }, "cluster.url", "given nothing"},
		"URL of Redis":       {nats, func(c *daemon.Cluster) { c.URL = "redis://10.0.0.1" }, "cluster.url", "an invalid URL"},
		"directory unused":   {nats, func(c *daemon.Cluster) { c.Dir = "/var/lib/peald" }, "cluster.dir", "want cluster.mode embedded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			cfg := daemon.Defaults()
			cfg.Cluster = test.from
			test.change(&cfg.Cluster)
			err := cfg.Validate()
			if test.key == "" {
				if err != nil {
					t.Fatalf("rejected: %v", err)
				}
				return
			}

			setting, ok := errors.AsType[*daemon.SettingError](err)
			if !ok || setting.Key != test.key || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error is %v, want %s and %q on one line", err, test.key, test.text)
			}
		})
	}
}
