package daemon_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// scrape reads /metrics like a Prometheus server that accepts native histograms.
func scrape(t *testing.T, d running) map[string]*dto.MetricFamily {
	t.Helper()

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.REST+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	format := expfmt.NewFormat(expfmt.TypeProtoDelim)
	req.Header.Set("Accept", string(format))
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	families := make(map[string]*dto.MetricFamily)
	for decoder := expfmt.NewDecoder(resp.Body, expfmt.ResponseFormat(resp.Header)); ; {
		var family dto.MetricFamily
		err := decoder.Decode(&family)
		if err == io.EOF { //nolint:errorlint // The decoder documents this value.
			return families
		}
		if err != nil {
			t.Fatal(err)
		}

		families[family.GetName()] = &family
	}
}

// byLabel returns a family's values by the value of its label, which is "" for a
// family without labels.
func byLabel(family *dto.MetricFamily) map[string]float64 {
	values := make(map[string]float64)
	for _, m := range family.GetMetric() {
		name := ""
		for _, label := range m.GetLabel() {
			name = label.GetValue()
		}
		values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	return values
}

// TestSeriesExistFromTheStart checks that each counter has a series for every
// value of its label: a series that appears with its first event shows no
// increase.
func TestSeriesExistFromTheStart(t *testing.T) {
	d := start(t, func(cfg *daemon.Config) { cfg.Broker.Shards = 3 })
	families := scrape(t, d)
	for name, want := range map[string]string{
		"disconnects_total":           "disconnected expired hung_up shutdown slow_consumer write_failed write_timeout",
		"dropped_total":               "disconnected expired hung_up shutdown slow_consumer write_failed write_timeout",
		"refused_total":               "bad_request denied draining failed max_connections max_connections_per_ip max_connects_per_second no_request origin stay_away token topic unavailable",
		"resumes_total":               "ended expired replayed unknown",
		"since_total":                 "ended expired replayed",
		"rewinds_total":               "ended expired replayed",
		"reads_total":                 "broadcast topic user",
		"polls_total":                 "abandoned empty events reset",
		"published_by_audience_total": "broadcast topic user",
		"connections_by_transport":    "epoll http1 http2 tls",
		"connections_by_engine":       "epoll nethttp",
		"tls_handshakes_total":        "failed full resumed",
		"key_reads_total":             "failure success",
		"shard_connections":           "0 1 2",
		"shard_lag_seconds":           "0 1 2",
		"shard_waiting_events":        "0 1 2",
		"published_total":             "",
		"connects_total":              "",
		"draining":                    "",
	} {
		values := byLabel(families["peald_"+name])
		if len(values) == 0 {
			t.Errorf("%s is missing", name)
		}

		for label := range strings.SplitSeq(want, " ") {
			if value, ok := values[label]; !ok || value != 0 {
				t.Errorf("%s of %q is %v, %v; want 0", name, label, value, ok)
			}
		}
	}
	if h := families["peald_delivery_latency_seconds"].GetMetric()[0].GetHistogram(); h.GetSampleCount() != 0 || len(h.GetBucket()) < 10 || h.GetSchema() != 3 {
		t.Errorf("without events, the latency is %v", h)
	}

	build := families["peald_build_info"].GetMetric()[0]
	labels := make(map[string]string)
	for _, l := range build.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	if labels["version"] != "v1.2.3" || !strings.HasPrefix(labels["goversion"], "go1.") || labels["revision"] == "" || build.GetGauge().GetValue() != 1 {
		t.Errorf("the build is %v", build)
	}
}

func TestTrafficMetrics(t *testing.T) {
	d := start(t, func(cfg *daemon.Config) {
		cfg.Auth.JWT.HMACSecret = secret
		cfg.Auth.AnonymousTopics = []string{"prices.>"}
	})

	rpc, _ := controlClient(t, d.GRPC)
	web := client(t)
	token, err := rpc.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: "alice"})
	if err != nil {
		t.Fatal(err)
	}

	anonymous := stream(t, web, "http://"+d.SSE+"/events?topic=prices.eur&topic=prices.*")
	alice := stream(t, web, "http://"+d.SSE+"/events?access_token="+token.GetToken())
	for range 3 {
		if _, err := rpc.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "x"}); err != nil {
			t.Fatal(err)
		}
	}

	sent, err := rpc.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Data: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rpc.Publish(t.Context(), &pealv1.PublishRequest{Topic: "prices.eur", Data: "7"}); err != nil {
		t.Fatal(err)
	}

	awaitLine(t, anonymous, "data: 7")
	awaitLine(t, alice, "data: mine")

	// The stream replays one broadcast and one message.
	epoch, _, _ := strings.Cut(sent.GetId(), "-")
	again := stream(t, web, "http://"+d.SSE+"/events?access_token="+token.GetToken()+"&last_event_id="+epoch+"-2")
	awaitLine(t, again, "data: mine")

	families := waitForFamilies(t, d, func(families map[string]*dto.MetricFamily) bool {
		return families["peald_delivery_latency_seconds"].GetMetric()[0].GetHistogram().GetSampleCount() >= 8 &&
			byLabel(families["peald_deliveries_total"])[""] >= 10
	})

	for name, want := range map[string]map[string]float64{
		"authenticated_connections":   {"": 2},
		"topics":                      {"": 2},
		"users":                       {"": 1},
		"published_total":             {"": 5},
		"published_by_audience_total": {"broadcast": 3, "user": 1, "topic": 1},
		"deliveries_total":            {"": 10},
		"resumes_total":               {"replayed": 1},
		"log_events":                  {"": 5},
	} {
		for label, value := range want {
			if got := byLabel(families["peald_"+name])[label]; got != value {
				t.Errorf("%s of %q is %v, want %v", name, label, got, value)
			}
		}
	}
	if age := byLabel(families["peald_log_age_seconds"])[""]; age <= 0 || age > 60 {
		t.Errorf("the oldest event is %v s old", age)
	}

	// Clients may open connections in advance.
	used, allowed := byLabel(families["peald_descriptors_used"])[""], byLabel(families["peald_descriptors_allowed"])[""]
	if used < 3 || used > 10 || allowed < 100 {
		t.Errorf("%v of %v descriptors are used, want 3 or a few more", used, allowed)
	}
	if h := families["peald_replay_events"].GetMetric()[0].GetHistogram(); h.GetSampleCount() != 1 || h.GetSampleSum() != 2 {
		t.Errorf("replays are %v, want one with 2 events", h)
	}

	checkBothHistograms(t, families["peald_delivery_latency_seconds"].GetMetric()[0].GetHistogram(), 8)

	d.end()

	for _, lines := range []*bufio.Reader{anonymous, alice, again} {
		_, _ = io.Copy(io.Discard, lines)
	}
}

// waitForFamilies scrapes until good returns true: a shard counts events after it
// has written them.
func waitForFamilies(t *testing.T, d running, good func(map[string]*dto.MetricFamily) bool) map[string]*dto.MetricFamily {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		families := scrape(t, d)
		if good(families) {
			return families
		}
		if time.Now().After(deadline) {
			t.Fatalf("metrics are still\n%v", families)
		}
	}
}

// checkBothHistograms checks that the native and the classic histogram agree on n
// observations.
func checkBothHistograms(t *testing.T, h *dto.Histogram, n uint64) {
	t.Helper()

	if h.GetSampleCount() != n || h.GetSampleSum() <= 0 || h.GetSampleSum() > 60*float64(n) || h.GetZeroThreshold() > 0.000_01 {
		t.Errorf("the histogram is %v, want %d observations", h, n)
	}

	var (
		all    = h.GetZeroCount()
		index  int32
		count  int64
		atMost = map[float64]uint64{}
		deltas = slices.Clone(h.GetPositiveDelta())
	)

	for _, span := range h.GetPositiveSpan() {
		index += span.GetOffset()
		for range span.GetLength() {
			count += deltas[0]
			deltas = deltas[1:]
			all += uint64(count)
			atMost[math.Exp2(float64(index)/8)] = all
			index++
		}
	}
	if all != n {
		t.Errorf("the native histogram has %d observations, want %d", all, n)
	}

	for _, bucket := range h.GetBucket() {
		// The classic bucket includes the native buckets that end at or below its
		// bound, and none that begin above it.
		least, most := h.GetZeroCount(), h.GetZeroCount()
		for bound, n := range atMost {
			if bound <= bucket.GetUpperBound()*1.0001 {
				least = max(least, n)
			}
			if bound/math.Exp2(1.0/8) < bucket.GetUpperBound()*0.9999 {
				most = max(most, n)
			}
		}
		if got := bucket.GetCumulativeCount(); got < least || got > most {
			t.Errorf("%d observations of at most %v; want %d to %d according to the native histogram", got, bucket.GetUpperBound(), least, most)
		}
	}
}

func TestStreamsAreCountedByTransport(t *testing.T) {
	id := newIdentity(t)
	certificate, key := id.certFile, id.keyFile
	plain := func(*daemon.Config) {}
	secure := func(cfg *daemon.Config) { cfg.SSE.TLS.CertFile, cfg.SSE.TLS.KeyFile = certificate, key }
	for _, test := range []struct {
		transport, engine string
		change            func(*daemon.Config)
		http2             bool
		scheme            string
		handshakes        float64
	}{
		{"epoll", "epoll", plain, false, "http", 0},
		{"http1", "nethttp", plain, false, "http", 0},
		{"http2", "epoll", plain, true, "http", 0},
		{"http2", "nethttp", plain, true, "http", 0},
		{"tls", "epoll", secure, false, "https", 1},
		{"tls", "nethttp", secure, false, "https", 0},
		{"http2", "epoll", secure, true, "https", 1},
		{"http2", "nethttp", secure, true, "https", 0},
	} {
		t.Run(test.scheme+" "+test.transport+" "+test.engine, func(t *testing.T) {
			d := start(t, func(cfg *daemon.Config) {
				test.change(cfg)
				cfg.SSE.Engine = test.engine
			})
			web := client(t)
			transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: new(http.Protocols)}
			transport.Protocols.SetHTTP1(!test.http2)
			transport.Protocols.SetHTTP2(test.http2)
			transport.Protocols.SetUnencryptedHTTP2(test.http2)
			t.Cleanup(transport.CloseIdleConnections)
			web.Transport = transport
			stream(t, web, test.scheme+"://"+d.SSE+"/events")
			families := waitForFamilies(t, d, func(families map[string]*dto.MetricFamily) bool {
				return byLabel(families["peald_connections"])[""] == 1
			})
			for transport, n := range byLabel(families["peald_connections_by_transport"]) {
				if (transport == test.transport) != (n == 1) {
					t.Errorf("%v streams by %s, want one by %s", n, transport, test.transport)
				}
			}
			for engine, n := range byLabel(families["peald_connections_by_engine"]) {
				if (engine == test.engine) != (n == 1) {
					t.Errorf("%v streams by %s, want one by %s", n, engine, test.engine)
				}
			}
			http2Connections := 0.0
			if test.http2 && test.engine == "epoll" {
				http2Connections = 1
			}
			for name, want := range map[string]float64{"compressed_connections": 1, "http2_connections": http2Connections} {
				if n := byLabel(families["peald_"+name])[""]; n != want {
					t.Errorf("%s is %v, want %v", name, n, want)
				}
			}
			if n := byLabel(families["peald_tls_handshakes_total"])["full"]; n != test.handshakes {
				t.Errorf("%v full handshakes, want %v", n, test.handshakes)
			}

			transport.CloseIdleConnections()
			d.end()
			if err := d.awaitEnd(t); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHandshakesAreCounted(t *testing.T) {
	id := newIdentity(t)
	d := start(t, func(cfg *daemon.Config) { cfg.SSE.TLS.CertFile, cfg.SSE.TLS.KeyFile = id.certFile, id.keyFile })
	cfg := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for range 3 {
		requestWith(t, d.SSE, cfg)
	}
	probe, err := net.Dial("tcp", d.SSE)
	if err != nil {
		t.Fatal(err)
	}
	_ = probe.Close()

	families := waitForFamilies(t, d, func(families map[string]*dto.MetricFamily) bool {
		counts := byLabel(families["peald_tls_handshakes_total"])
		return counts["full"] == 1 && counts["resumed"] == 2 && counts["failed"] == 1
	})
	if n := byLabel(families["peald_tls_handshake_computing_seconds_total"])[""]; n <= 0 {
		t.Errorf("handshakes took %v s", n)
	}
	if h := families["peald_tls_handshake_seconds"].GetMetric()[0].GetHistogram(); h.GetSampleCount() != 3 || h.GetSampleSum() <= 0 || len(h.GetBucket()) < 10 {
		t.Errorf("the durations are %v, want 3", h)
	}

	d.end()
	if err := d.awaitEnd(t); err != nil {
		t.Error(err)
	}
}
