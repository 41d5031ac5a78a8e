package daemon

import (
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/buildinfo"
	"github.com/peald/peald/ssehttp"
)

// sources are where the figures come from.
type sources struct {
	broker         *broker.Broker
	streams        *ssehttp.Handler
	refused        func() map[string]int64
	maxConnections func() int64
	descriptors    func() (used, allowed int)
	keyReads       func() (good, failed int64)
	lostLines      func() int64 // may be nil
	version        string
}

// reading is what the sources said at one time.
type reading struct {
	broker.Stats

	now               time.Time
	latency, replays  broker.Histogram
	transports        map[string]int64
	draining          bool
	refused           map[string]int64
	maxConnections    int64
	used, allowed     int
	keysRead, keysBad int64
	lostLines         int64
	version           string
}

func (s *sources) read() *reading {
	r := &reading{
		Stats:          s.broker.Stats(),
		now:            time.Now(),
		latency:        s.broker.Latency(),
		replays:        s.broker.Replays(),
		transports:     s.streams.Transports(),
		draining:       s.streams.Draining(),
		refused:        s.refused(),
		maxConnections: s.maxConnections(),
		version:        s.version,
	}
	r.used, r.allowed = s.descriptors()
	r.keysRead, r.keysBad = s.keyReads()
	if s.lostLines != nil {
		r.lostLines = s.lostLines()
	}
	return r
}

// ownMetrics are all of the daemon's own, but for those that parts register
// themselves.
func ownMetrics() []metric {
	return slices.Concat(streamMetrics(), trafficMetrics(), logMetrics(), shardMetrics(), processMetrics())
}

func streamMetrics() []metric {
	return []metric{
		gauge("connections", "Open streams.", func(r *reading) int64 { return int64(r.Total.Connections) }),
		gauge("max_connections", "Streams that may be open.", func(r *reading) int64 { return r.maxConnections }),
		gauge("authenticated_connections", "Open streams that belong to a user.",
			func(r *reading) int64 { return int64(r.Total.Authenticated) }),
		each(prometheus.GaugeValue, "connections_by_transport", "Open streams by how their bytes get to the client: "+
			"\"epoll\" and \"http1\" are HTTP/1.1 in clear text, by peald's own engine and by net/http; \"tls\" is HTTP/1.1 over TLS, and \"http2\" is HTTP/2.",
			"transport", func(r *reading) map[string]int64 { return r.transports }),
		gauge("users", "Users who hold a stream.", func(r *reading) int64 { return int64(r.Users) }),
		gauge("topics", "Topics and patterns that streams subscribe to.", func(r *reading) int64 { return int64(r.Topics) }),
		counter("connects_total", "Streams opened.", func(r *reading) int64 { return r.Total.Connected }),
		each(prometheus.CounterValue, "disconnects_total", "Streams ended.",
			"reason", func(r *reading) map[string]int64 { return ofEachReason(r.Total.Disconnected) }),
		each(prometheus.CounterValue, "refused_total", "Requests for streams that were refused.",
			"reason", func(r *reading) map[string]int64 { return r.refused }),
	}
}

// ofEachReason has the reasons too of which nothing was counted.
func ofEachReason(counted map[string]int64) map[string]int64 {
	all := make(map[string]int64)
	for _, reason := range broker.Reasons() {
		all[reason.String()] = counted[reason.String()]
	}
	return all
}

func trafficMetrics() []metric {
	return []metric{
		counter("published_total", "Messages accepted.", func(r *reading) int64 { return r.Published }),
		each(prometheus.CounterValue, "published_by_audience_total", "Messages accepted, by whom they were for: everybody, a user, or the subscribers of a topic.",
			"audience", func(r *reading) map[string]int64 {
				return map[string]int64{"broadcast": r.ByAudience.Broadcast, "user": r.ByAudience.User, "topic": r.ByAudience.Topic}
			}),
		counter("deliveries_total", "Events handed to sockets.", func(r *reading) int64 { return r.Total.Delivered }),
		counter("sent_bytes_total", "Bytes handed to sockets.", func(r *reading) int64 { return r.Total.Bytes }),
		gauge("queue_bytes", "Bytes that wait for sockets.", func(r *reading) int64 { return r.Total.QueuedBytes }),
		each(prometheus.CounterValue, "dropped_total", "Events queued that never got to their socket.",
			"reason", func(r *reading) map[string]int64 { return ofEachReason(r.Total.Dropped) }),
		latencyMetric("delivery_latency_seconds", "Time from the acceptance of a message until it was handed to a socket, once for each stream that got it. "+
			"Live events alone: what is replayed out of the log is no part of it, nor are heartbeats. Over TLS and HTTP/2 it ends where net/http takes the event over."),
	}
}

func logMetrics() []metric {
	return []metric{
		each(prometheus.CounterValue, "resumes_total", "Streams that came with a last event id: replayed without a hole, ended before that was done, or told of a hole, "+
			"since the id was unknown or what followed it had expired.",
			"outcome", func(r *reading) map[string]int64 {
				return map[string]int64{
					"replayed": r.Resumes.Replayed, "ended": r.Resumes.Ended,
					broker.ResetExpired: r.Resumes.Resets[broker.ResetExpired], broker.ResetUnknown: r.Resumes.Resets[broker.ResetUnknown],
				}
			}),
		replaysMetric("replay_events", "Events out of the log for each stream that resumed."),
		gauge("log_events", "Events in the log.", func(r *reading) int64 { return int64(r.LogEvents) }),
		gauge("log_bytes", "Memory of the log's events and index.", func(r *reading) int64 { return int64(r.LogBytes) }),
		one(prometheus.GaugeValue, "log_age_seconds", "How long ago the oldest event in the log was published: for how long a client may be away and resume.",
			func(r *reading) float64 {
				if r.LogSince.IsZero() {
					return 0
				}
				return r.now.Sub(r.LogSince).Seconds()
			}),
	}
}

func shardMetrics() []metric {
	return []metric{
		ofEachShard("shard_connections", "Open streams of the shard.", func(s broker.ShardStats) float64 { return float64(s.Connections) }),
		ofEachShard("shard_waiting_events", "Events that the shard has yet to put into its streams' queues.",
			func(s broker.ShardStats) float64 { return float64(s.WaitingEvents) }),
		ofEachShard("shard_lag_seconds", "How long ago the oldest of the shard's waiting events was published.",
			func(s broker.ShardStats) float64 { return s.Lag.Seconds() }),
	}
}

// ofEachShard has a series a shard, since one that has a user with very many
// streams may be late alone. Shards are as few as processors, unless somebody
// wants it otherwise, and MaxShards at most.
func ofEachShard(name, help string, value func(broker.ShardStats) float64) metric {
	return each(prometheus.GaugeValue, name, help, "shard", func(r *reading) map[string]float64 {
		all := make(map[string]float64, len(r.Shards))
		for _, s := range r.Shards {
			all[strconv.Itoa(s.Shard)] = value(s)
		}
		return all
	})
}

func processMetrics() []metric {
	return []metric{
		gauge("descriptors_used", "File descriptors of browsers' connections, with a stream or without.",
			func(r *reading) int64 { return int64(r.used) }),
		gauge("descriptors_allowed", "File descriptors that browsers' connections may take. The system keeps those waiting that are more.",
			func(r *reading) int64 { return int64(r.allowed) }),
		gauge("draining", "Whether the daemon takes no new streams, since it is about to end.", func(r *reading) int64 {
			if r.draining {
				return 1
			}
			return 0
		}),
		each(prometheus.CounterValue, "key_reads_total", "Times that keys for tokens were read from auth.jwt.jwks_url or auth.jwt.public_key_file, by whether they could be. "+
			"Where they could not, those read before stay good.",
			"outcome", func(r *reading) map[string]int64 {
				return map[string]int64{"success": r.keysRead, "failure": r.keysBad}
			}),
		counter("log_lines_lost_total", "Lines that the daemon's own log has not taken, because its reader was gone or too slow, or its disk was full.",
			func(r *reading) int64 { return r.lostLines }),
		buildInfo(),
	}
}

// buildInfo says what runs: its value is 1.
func buildInfo() metric {
	desc := descOf("build_info", "The daemon's version, the Go that it was built with, and the commit that it was built from.",
		"version", "goversion", "revision")
	return metric{desc, func(r *reading, ch chan<- prometheus.Metric) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, 1, r.version, runtime.Version(), buildinfo.Revision())
	}}
}
