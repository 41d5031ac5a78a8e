package daemon

import (
	"runtime"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/buildinfo"
)

// ownMetrics returns the daemon's own metrics. They don't include those that parts
// provide as collectors of their own.
func ownMetrics() []metric {
	return slices.Concat(streamMetrics(), handshakeMetrics(), trafficMetrics(), historyMetrics(), shardMetrics(), processMetrics())
}

func streamMetrics() []metric {
	return []metric{
		gauge("connections", "Open streams, and polls that are waiting.", func(r *reading) int64 { return int64(r.Total.Connections) }),
		gauge("max_connections", "Maximum number of open streams.", func(r *reading) int64 { return r.maxConnections }),
		gauge("authenticated_connections", "Open streams that belong to a user.",
			func(r *reading) int64 { return int64(r.Total.Authenticated) }),
		each(prometheus.GaugeValue, "connections_by_transport", "Open streams by transport: "+
			"\"epoll\" and \"http1\" are plain HTTP/1.1, with sse.engine epoll and with net/http; \"tls\" is HTTP/1.1 over TLS and \"http2\" is HTTP/2, with either engine.",
			"transport", func(r *reading) map[string]int64 { return r.transports }),
		each(prometheus.GaugeValue, "connections_by_engine", "Open streams by engine: \"epoll\" holds bare descriptors; "+
			"\"nethttp\" uses one goroutine per stream, for TLS 1.2 and with sse.engine nethttp.",
			"engine", func(r *reading) map[string]int64 { return r.engines }),
		gauge("compressed_connections", "Open streams that are compressed.",
			func(r *reading) int64 { return int64(r.Total.Compressed) }),
		gauge("http2_connections", "HTTP/2 connections of the epoll engine, with or without streams.",
			func(r *reading) int64 { return r.http2Connections }),
		gauge("users", "Users with an open stream.", func(r *reading) int64 { return int64(r.Users) }),
		gauge("topics", "Topics and patterns that streams subscribe to.", func(r *reading) int64 { return int64(r.Topics) }),
		counter("connects_total", "Streams opened, and polls that waited.", func(r *reading) int64 { return r.Total.Connected }),
		each(prometheus.CounterValue, "disconnects_total", "Streams closed, by reason.",
			"reason", func(r *reading) map[string]int64 { return ofEachReason(r.Total.Disconnected) }),
		each(prometheus.CounterValue, "polls_total", "Polls answered, by result: events; reset, with or without events, because some are missing; empty; "+
			"or abandoned, because the client left while the poll was waiting.",
			"result", func(r *reading) map[string]int64 { return r.Polls.Answered }),
		gauge("polls_waiting", "Polls that are waiting for an event.", func(r *reading) int64 { return int64(r.Polls.Waiting) }),
		each(prometheus.CounterValue, "refused_total", "Rejected requests for streams and polls, by reason.",
			"reason", func(r *reading) map[string]int64 { return r.rejected }),
	}
}

func handshakeMetrics() []metric {
	return []metric{
		each(prometheus.CounterValue, "tls_handshakes_total", "TLS handshakes of the epoll engine by result: full, with a certificate; resumed, which takes less time; "+
			"or failed, which includes probes that close the connection. Handshakes that net/http performs aren't counted.",
			"result", func(r *reading) map[string]int64 {
				return map[string]int64{"full": r.handshakes.Full, "resumed": r.handshakes.Resumed, "failed": r.handshakes.Failed}
			}),
		one(prometheus.CounterValue, "tls_handshake_computing_seconds_total", "Time spent on the epoll engine's TLS handshakes, not counting waits for clients or for other handshakes.",
			func(r *reading) float64 { return r.handshakes.Computing.Seconds() }),
		handshakesMetric("tls_handshake_seconds", "Duration of the epoll engine's TLS handshakes, including the wait for the client and for other handshakes. Failed handshakes aren't included."),
	}
}

// ofEachReason returns counted with zeros added for the reasons that it lacks.
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
		each(prometheus.CounterValue, "published_by_audience_total", "Messages accepted, by audience: all streams, a user, or the subscribers of a topic.",
			"audience", func(r *reading) map[string]int64 {
				return map[string]int64{"broadcast": r.ByAudience.Broadcast, "user": r.ByAudience.User, "topic": r.ByAudience.Topic}
			}),
		counter("deliveries_total", "Events written to sockets, over streams or for polls.", func(r *reading) int64 { return r.Total.Delivered }),
		counter("sent_bytes_total", "Bytes written to sockets.", func(r *reading) int64 { return r.Total.Bytes }),
		gauge("queue_bytes", "Bytes queued for sockets.", func(r *reading) int64 { return r.Total.QueuedBytes }),
		each(prometheus.CounterValue, "dropped_total", "Queued events that were never written to a socket, by reason.",
			"reason", func(r *reading) map[string]int64 { return ofEachReason(r.Total.Dropped) }),
		latencyMetric("delivery_latency_seconds", "Time from accepting a message to writing it to a socket, once for each stream that got it. "+
			"Only live events are included, not replayed ones or heartbeats. For streams that net/http serves, it ends when net/http accepts the event."),
	}
}

func historyMetrics() []metric {
	return []metric{
		each(prometheus.CounterValue, "resumes_total", "Streams opened with a last event ID, by outcome: replayed without a gap; ended before the replay was complete; "+
			"or reset, because the ID was unknown or the events after it had expired.",
			"outcome", func(r *reading) map[string]int64 {
				return map[string]int64{
					"replayed": r.Resumes.Replayed, "ended": r.Resumes.Ended,
					broker.ResetExpired: r.Resumes.Resets[broker.ResetExpired], broker.ResetUnknown: r.Resumes.Resets[broker.ResetUnknown],
				}
			}),
		each(prometheus.CounterValue, "since_total", "Streams opened with since and a time, a duration or all, by outcome: replayed without a gap; ended before the "+
			"replay was complete; or reset, because events since then had expired.",
			"outcome", func(r *reading) map[string]int64 { return startOutcomes(r.Since) }),
		each(prometheus.CounterValue, "rewinds_total", "Streams opened with rewind, by outcome: replayed without a gap; ended before the replay was complete; "+
			"or reset, because the client read so slowly that events expired.",
			"outcome", func(r *reading) map[string]int64 { return startOutcomes(r.Rewinds) }),
		each(prometheus.CounterValue, "reads_total", "Pages of messages that calls to the control plane read from the history or from the retained values, by audience.",
			"audience", func(r *reading) map[string]int64 {
				return map[string]int64{"broadcast": r.Reads.Broadcast, "user": r.Reads.User, "topic": r.Reads.Topic}
			}),
		each(prometheus.CounterValue, "retained_starts_total", "Streams opened without a position that received retained values, by outcome: replayed without a gap; ended before they had "+
			"received all values; or reset, because events had expired by then.",
			"outcome", func(r *reading) map[string]int64 { return startOutcomes(r.Fresh) }),
		gauge("retained_events", "Retained values.", func(r *reading) int64 { return int64(r.RetainedEvents) }),
		gauge("retained_bytes", "Memory used by retained values, which retain.max_bytes limits.", func(r *reading) int64 { return int64(r.RetainedBytes) }),
		replaysMetric("replay_events", "Replayed events per stream that started in the past."),
		gauge("log_events", "Events in the history. An event for several topics counts once for each.", func(r *reading) int64 { return int64(r.LogEvents) }),
		gauge("log_bytes", "Memory used by the history's events and index.", func(r *reading) int64 { return int64(r.LogBytes) }),
		one(prometheus.GaugeValue, "log_age_seconds", "Age of the oldest event in the history.",
			func(r *reading) float64 {
				if r.LogSince.IsZero() {
					return 0
				}
				return r.now.Sub(r.LogSince).Seconds()
			}),
	}
}

// startOutcomes returns the numbers, by outcome, of streams that started in the past
// without an event id.
func startOutcomes(r broker.Resumes) map[string]int64 {
	return map[string]int64{"replayed": r.Replayed, "ended": r.Ended, broker.ResetExpired: r.Resets[broker.ResetExpired]}
}

func shardMetrics() []metric {
	return []metric{
		ofEachShard("shard_connections", "Open streams of the shard.", func(s broker.ShardStats) float64 { return float64(s.Connections) }),
		ofEachShard("shard_waiting_events", "Events that the shard has yet to put into its streams' queues.",
			func(s broker.ShardStats) float64 { return float64(s.WaitingEvents) }),
		ofEachShard("shard_lag_seconds", "Age of the oldest event that the shard has yet to put into its streams' queues.",
			func(s broker.ShardStats) float64 { return s.Lag.Seconds() }),
	}
}

// ofEachShard returns a metric with one series per shard, because a single shard may
// lag if one user has very many streams. By default, there are as many shards as
// processors. There are at most MaxShards.
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
		gauge("descriptors_used", "File descriptors used by browsers' connections, with or without a stream.",
			func(r *reading) int64 { return int64(r.used) }),
		gauge("descriptors_allowed", "File descriptors that browsers' connections may use. The system queues further connections.",
			func(r *reading) int64 { return int64(r.allowed) }),
		gauge("draining", "Whether the daemon is draining and accepts no new streams.", func(r *reading) int64 {
			if r.draining {
				return 1
			}
			return 0
		}),
		each(prometheus.CounterValue, "key_reads_total", "Reads of token keys from auth.jwt.jwks_url or auth.jwt.public_key_file, by outcome. "+
			"After a failure, the previous keys stay in use.",
			"outcome", func(r *reading) map[string]int64 {
				return map[string]int64{"success": r.keysRead, "failure": r.keysBad}
			}),
		counter("log_lines_lost_total", "Lines of the daemon's log that were lost because its reader was gone or too slow, or its disk was full.",
			func(r *reading) int64 { return r.lostLines }),
		buildInfo(),
	}
}

// buildInfo returns a metric whose labels identify the build. Its value is 1.
func buildInfo() metric {
	desc := descOf("build_info", "The daemon's version, and the Go version and commit that it was built from.",
		"version", "goversion", "revision")
	return metric{desc, func(r *reading, ch chan<- prometheus.Metric) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, 1, r.version, runtime.Version(), buildinfo.Revision())
	}}
}
