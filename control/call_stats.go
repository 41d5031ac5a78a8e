package control

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// Stats implements pealv1.ControlServiceServer.
func (s *Service) Stats(ctx context.Context, req *pealv1.StatsRequest) (*pealv1.StatsResponse, error) {
	resp := s.localStats()
	if s.cluster == nil {
		return resp, nil
	}

	var err error

	sum := newStatsSum(resp, s.cluster.Name(), s.cluster.Nodes())
	if resp.MissingNodes, err = queryOthers(ctx, s, pealv1.ControlService_Stats_FullMethodName, req, sum.add); err != nil {
		return nil, fmt.Errorf("querying stats: %w", err)
	}

	sum.sort()

	return resp, nil
}

// localStats is like Stats, but covers only this daemon.
func (s *Service) localStats() *pealv1.StatsResponse {
	st := s.broker.Stats()
	resp := &pealv1.StatsResponse{
		Total:               shardStats(st.Total),
		Users:               toInt32(st.Users),
		Published:           st.Published,
		StartedAt:           timestamppb.New(st.StartedAt),
		Version:             s.version,
		MaxConnections:      toInt32(s.reloadable.Load().cfg.MaxConnections),
		Resumes:             resumes(st.Resumes),
		Since:               resumes(st.Since),
		Rewinds:             resumes(st.Rewinds),
		Retained:            &pealv1.Retained{Events: int64(st.RetainedEvents), Bytes: int64(st.RetainedBytes), Starts: resumes(st.Fresh)},
		PublishedByAudience: &pealv1.PublishedByAudience{Broadcast: st.ByAudience.Broadcast, User: st.ByAudience.User, Topic: st.ByAudience.Topic},
		Polls:               polls(st.Polls),
		Reads:               &pealv1.Reads{Broadcast: st.Reads.Broadcast, User: st.Reads.User, Topic: st.Reads.Topic},
		Topics:              toInt32(st.Topics),
		Log:                 &pealv1.Log{Events: int64(st.LogEvents), Bytes: int64(st.LogBytes)},
		Latency:             histogram(s.broker.Latency()),
		Sources:             s.sourceMessages(),
	}

	if !st.LogSince.IsZero() {
		resp.Log.Since = timestamppb.New(st.LogSince)
	}

	if s.descriptors != nil {
		used, allowed := s.descriptors()
		resp.Descriptors = &pealv1.Descriptors{Used: toInt32(used), Allowed: toInt32(allowed)}
	}

	for _, row := range st.Shards {
		resp.Shards = append(resp.Shards, shardStats(row))
	}

	return resp
}

func resumes(r broker.Resumes) *pealv1.Resumes {
	return &pealv1.Resumes{Replayed: r.Replayed, Resets: r.Resets, Ended: r.Ended}
}

// polls converts p. Like all counts by reason or result, it omits zeros.
func polls(p broker.Polls) *pealv1.Polls {
	converted := &pealv1.Polls{Waiting: toInt32(p.Waiting), Answered: make(map[string]int64)}

	for result, n := range p.Answered {
		switch {
		case result == broker.PollAbandoned:
			converted.Abandoned = n
		case n > 0:
			converted.Answered[result] = n
		}
	}

	return converted
}

func shardStats(st broker.ShardStats) *pealv1.ShardStats {
	return &pealv1.ShardStats{
		Shard:                    toInt32(st.Shard),
		Connections:              toInt32(st.Connections),
		AuthenticatedConnections: toInt32(st.Authenticated),
		Connected:                st.Connected,
		Disconnected:             st.Disconnected,
		Delivered:                st.Delivered,
		Dropped:                  st.Dropped,
		Bytes:                    st.Bytes,
		QueuedBytes:              st.QueuedBytes,
		WaitingEvents:            st.WaitingEvents,
		Lag:                      durationpb.New(st.Lag),
	}
}

// bucketStep is the minimum ratio between the bounds of two adjacent buckets of a
// histogram. It is slightly less than the square root of 2, because the broker's bounds
// include the powers of that root.
const bucketStep = 1.4

// histogram converts h to a histogram with fewer buckets.
func histogram(h broker.Histogram) *pealv1.Histogram {
	converted := &pealv1.Histogram{Count: h.Count(), Sum: h.Sum}

	var (
		last       float64
		cumulative int64
	)

	for i, bound := range h.Bounds {
		cumulative += h.Counts[i]
		if bound >= bucketStep*last {
			last = bound
			converted.Buckets = append(converted.Buckets, &pealv1.HistogramBucket{UpperBound: bound, Count: cumulative})
		}
	}

	return converted
}
