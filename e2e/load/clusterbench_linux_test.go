package load_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// BenchmarkClusterPublish measures how fast three daemons on this machine
// acknowledge messages for users who aren't connected. It publishes on one
// PublishStream and with consecutive unary calls, to the leader and to a
// follower. Each unary call creates a separate entry in the event log. The
// reported CPU time is per message, for the node that is called and for each of
// the others.
func BenchmarkClusterPublish(b *testing.B) {
	for _, sync := range []bool{false, true} {
		nodes := startNodes(b, 3, fmt.Sprint("--cluster.sync=", sync))
		for _, leads := range []bool{true, false} {
			to := findNode(b, nodes, leads)
			conn, err := grpc.NewClient(to.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				b.Fatal(err)
			}

			client := pealv1.NewControlServiceClient(conn)
			name := fmt.Sprintf("sync=%t,leader=%t", sync, leads)
			b.Run("stream,"+name, func(b *testing.B) {
				measurePublishing(b, nodes, to, func(messages int) { streamAll(b, client, messages) })
			})

			b.Run("unary,"+name, func(b *testing.B) {
				measurePublishing(b, nodes, to, func(messages int) {
					for i := range messages {
						if _, err := client.SendToUser(b.Context(), &pealv1.SendToUserRequest{UserId: fmt.Sprint("user", i), Data: strings.Repeat("x", 100)}); err != nil {
							b.Fatal(err)
						}
					}
				})
			})

			if err := conn.Close(); err != nil {
				b.Error(err)
			}
		}
	}
}

// measurePublishing reports the rate of acknowledgments, and the CPU time per
// message of the node that is called and of each of the others.
func measurePublishing(b *testing.B, nodes []*clusterNode, to *clusterNode, publish func(messages int)) {
	b.Helper()
	spent := func() (here, others time.Duration) {
		for _, n := range nodes {
			p, err := procfs.NewProc(n.cmd.Process.Pid)
			if err != nil {
				b.Fatal(err)
			}

			stat, err := p.Stat()
			if err != nil {
				b.Fatal(err)
			}

			took := time.Duration(stat.CPUTime() * float64(time.Second))
			if n == to {
				here = took
			} else {
				others += took / time.Duration(len(nodes)-1)
			}
		}

		return here, others
	}

	here, others := spent()
	b.ResetTimer()
	publish(b.N)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acks/s")
	hereNow, othersNow := spent()
	b.ReportMetric(float64((hereNow-here).Microseconds())/float64(b.N), "µs-here/op")
	b.ReportMetric(float64((othersNow-others).Microseconds())/float64(b.N), "µs-elsewhere/op")
}

// streamAll publishes on one stream and returns once all messages are
// acknowledged.
func streamAll(b *testing.B, client pealv1.ControlServiceClient, messages int) {
	b.Helper()
	stream, err := client.PublishStream(b.Context())
	if err != nil {
		b.Fatal(err)
	}

	var sending sync.WaitGroup
	sending.Go(func() {
		data := strings.Repeat("x", 100)
		for i := range messages {
			m := &pealv1.PublishStreamRequest{Audience: &pealv1.PublishStreamRequest_UserId{UserId: fmt.Sprint("user", i%100_000)}, Data: data}
			if err := stream.Send(m); err != nil {
				break // Recv returns the reason
			}
		}

		if err := stream.CloseSend(); err != nil {
			b.Error(err)
		}
	})

	acknowledged := 0
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}

		if err != nil {
			b.Error(err)
			break
		}

		for _, ack := range resp.GetAcks() {
			if ack.GetError() != nil {
				b.Errorf("rejected: %v", ack.GetError())
			}

			acknowledged++
		}
	}

	sending.Wait()
	if acknowledged != messages {
		b.Errorf("%d of %d messages were acknowledged", acknowledged, messages)
	}
}
