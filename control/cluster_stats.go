package control

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// statsSum adds up the stats of all nodes in this node's reply.
type statsSum struct {
	reply *pealv1.StatsResponse
	nodes map[string]*pealv1.Node // by name
}

func newStatsSum(own *pealv1.StatsResponse, name string, nodes []*pealv1.Node) *statsSum {
	own.Nodes = nodes

	sum := &statsSum{own, make(map[string]*pealv1.Node, len(nodes))}
	for _, n := range nodes {
		sum.nodes[n.GetName()] = n
	}

	sum.label(name, own)

	return sum
}

// label sets the node's name in each row of stats. It also copies the values that
// belong in the node's entry in the list of nodes.
func (s *statsSum) label(node string, stats *pealv1.StatsResponse) {
	for _, row := range stats.GetShards() {
		row.Node = node
	}

	if n := s.nodes[node]; n != nil {
		n.Connections, n.Users = stats.GetTotal().GetConnections(), stats.GetUsers()
		n.Version, n.StartedAt = stats.GetVersion(), stats.GetStartedAt()
	}
}

// add adds the stats of another node.
func (s *statsSum) add(node string, other *pealv1.StatsResponse) {
	s.label(node, other)

	sum := s.reply
	sum.Shards = append(sum.Shards, other.GetShards()...)
	sum.Sources = append(sum.Sources, other.GetSources()...)
	addShard(sum.GetTotal(), other.GetTotal())
	sum.Users += other.GetUsers()
	sum.Topics += other.GetTopics()
	sum.Published += other.GetPublished()
	sum.MaxConnections += other.GetMaxConnections()

	addResumes(sum.GetResumes(), other.GetResumes())
	addResumes(sum.GetSince(), other.GetSince())
	addResumes(sum.GetRewinds(), other.GetRewinds())
	addResumes(sum.GetRetained().GetStarts(), other.GetRetained().GetStarts())

	addPolls(sum.GetPolls(), other.GetPolls())

	if reads := sum.GetReads(); reads != nil {
		reads.Broadcast += other.GetReads().GetBroadcast()
		reads.User += other.GetReads().GetUser()
		reads.Topic += other.GetReads().GetTopic()
	}

	if by := sum.GetPublishedByAudience(); by != nil {
		by.Broadcast += other.GetPublishedByAudience().GetBroadcast()
		by.User += other.GetPublishedByAudience().GetUser()
		by.Topic += other.GetPublishedByAudience().GetTopic()
	}

	if d := sum.GetDescriptors(); d != nil {
		d.Used += other.GetDescriptors().GetUsed()
		d.Allowed += other.GetDescriptors().GetAllowed()
	}

	addHistogram(sum.GetLatency(), other.GetLatency())
}

// sort sorts the rows by node and shard, and sources by name and node.
func (s *statsSum) sort() {
	slices.SortStableFunc(s.reply.GetShards(), func(a, b *pealv1.ShardStats) int {
		return cmp.Or(cmp.Compare(a.GetNode(), b.GetNode()), cmp.Compare(a.GetShard(), b.GetShard()))
	})
	slices.SortStableFunc(s.reply.GetSources(), func(a, b *pealv1.Source) int {
		return cmp.Or(cmp.Compare(a.GetName(), b.GetName()), cmp.Compare(a.GetNode(), b.GetNode()))
	})
}

// addResumes adds other to sum. other may be nil if it comes from a node that runs an
// older version.
func addResumes(sum, other *pealv1.Resumes) {
	if sum == nil {
		return
	}

	sum.Replayed += other.GetReplayed()
	sum.Ended += other.GetEnded()
	sum.Resets = addCounts(sum.GetResets(), other.GetResets())
}

// addPolls is like addResumes.
func addPolls(sum, other *pealv1.Polls) {
	if sum == nil {
		return
	}

	sum.Waiting += other.GetWaiting()
	sum.Answered = addCounts(sum.GetAnswered(), other.GetAnswered())
	sum.Abandoned += other.GetAbandoned()
}

func addShard(sum, other *pealv1.ShardStats) {
	sum.Connections += other.GetConnections()
	sum.AuthenticatedConnections += other.GetAuthenticatedConnections()
	sum.Connected += other.GetConnected()
	sum.Disconnected = addCounts(sum.GetDisconnected(), other.GetDisconnected())
	sum.Delivered += other.GetDelivered()
	sum.Dropped = addCounts(sum.GetDropped(), other.GetDropped())
	sum.Bytes += other.GetBytes()
	sum.QueuedBytes += other.GetQueuedBytes()
	sum.WaitingEvents += other.GetWaitingEvents()
	sum.Lag = durationpb.New(max(sum.GetLag().AsDuration(), other.GetLag().AsDuration()))
}

func addCounts(sum, other map[string]int64) map[string]int64 {
	if sum == nil {
		sum = make(map[string]int64, len(other))
	}

	for name, n := range other {
		sum[name] += n
	}

	return sum
}

// addHistogram adds other to sum. It ignores other if its bounds differ, as they may if
// its node runs another version.
func addHistogram(sum, other *pealv1.Histogram) {
	same := slices.EqualFunc(sum.GetBuckets(), other.GetBuckets(), func(a, b *pealv1.HistogramBucket) bool {
		return a.GetUpperBound() == b.GetUpperBound()
	})
	if !same || sum == nil {
		return
	}

	for i, b := range other.GetBuckets() {
		sum.Buckets[i].Count += b.GetCount()
	}

	sum.Count += other.GetCount()
	sum.Sum += other.GetSum()
}
