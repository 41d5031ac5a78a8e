package load_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/testbed"
)

// pagePlan configures the load of TestPages.
type pagePlan struct {
	pages, topics int           // pages at once, and topics that they are spread over
	rate          int           // messages per second
	pause         time.Duration // the longest time between fetching a position and opening the stream
	stay          time.Duration // the mean time that a page stays open
	duration      time.Duration
}

// TestPages opens pages while messages are published at a constant rate. For each page,
// a backend fetches the current position and then reads the state: the number of
// messages, which the publisher increases before it publishes. The page opens its stream with the position up to a second later. It
// must get every message after the position, once and in order, so that it misses
// nothing that isn't part of its state.
//
// It takes a few seconds with 50 pages, or a fifth of the duration in SOAK with 10,000
// pages and 1,000 messages/s.
func TestPages(t *testing.T) {
	plan := pagePlan{pages: 50, topics: 20, rate: 100, pause: 300 * time.Millisecond, stay: 500 * time.Millisecond, duration: 2 * time.Second}

	if text := os.Getenv("SOAK"); text != "" {
		total, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("SOAK: %v", err)
		}

		plan = pagePlan{pages: 10_000, topics: 1000, rate: 1000, pause: time.Second, stay: 20 * time.Second, duration: total / 5}
	}

	d := startDaemon(t, testbed.BuildDaemon(t), "--auth.anonymous_topics=room.>", "--history.max_events=200000", "--history.max_bytes=256MiB")

	conn, err := grpc.NewClient(d.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	s := &site{plan: plan, sse: d.SSE, control: pealv1.NewControlServiceClient(conn), open: make(map[*page]struct{})}
	s.sent, s.ids = make([]int, plan.topics), make([][]uint64, plan.topics)
	s.run(t)
	s.check(t)
	d.stop(t)
}

// site is a backend with its pages.
type site struct {
	plan    pagePlan
	sse     string
	control pealv1.ControlServiceClient

	mu     sync.Mutex
	sent   []int      // the number of messages that are or will be published, by topic
	ids    [][]uint64 // the sequence numbers of the acknowledged messages, by topic
	open   map[*page]struct{}
	closed []*page
	faults []string
}

// run publishes and opens pages for the duration of the plan, and then waits until the
// open pages are complete.
func (s *site) run(t *testing.T) {
	t.Helper()

	visits, endVisits := context.WithCancel(t.Context())
	defer endVisits()

	var browsers sync.WaitGroup

	for i := range s.plan.pages {
		browsers.Go(func() {
			// The first visits are spread over the longest pause.
			for pause(visits, time.Duration(i)*s.plan.pause/time.Duration(s.plan.pages)) {
				s.visit(visits)

				i = 0
			}
		})
	}

	if err := s.publish(t.Context()); err != nil {
		t.Errorf("publish: %v", err)
	}

	endVisits()

	eventually(2*time.Minute, func() bool { return len(s.incomplete()) == 0 })

	for _, p := range s.incomplete() {
		s.faultf("%v got messages only up to %d", p, p.next)
	}

	s.mu.Lock()
	for p := range s.open {
		p.leave()
	}
	s.mu.Unlock()

	browsers.Wait()
}

// publish publishes messages for all topics in turn, at the plan's rate.
func (s *site) publish(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	stream, err := s.control.PublishStream(ctx)
	if err != nil {
		return err
	}

	acknowledged := make(chan error, 1)
	messages := int(s.plan.duration.Seconds() * float64(s.plan.rate))

	go func() { acknowledged <- s.receiveAcks(stream, messages) }()

	began := time.Now()
	for i := range messages {
		// The schedule is absolute, so that a slow message doesn't delay later ones.
		if !pause(ctx, time.Until(began.Add(time.Duration(i)*time.Second/time.Duration(s.plan.rate)))) {
			break
		}

		to := i % s.plan.topics
		m := &pealv1.PublishStreamRequest{
			Audience: &pealv1.PublishStreamRequest_Topic{Topic: topicName(to)}, Data: fmt.Sprint(to, " ", i/s.plan.topics),
		}

		s.mu.Lock()
		s.sent[to]++
		s.mu.Unlock()

		if stream.Send(m) != nil {
			break // the receiving side gets the reason
		}
	}

	return <-acknowledged
}

func topicName(topic int) string { return fmt.Sprintf("room.%d.news", topic) }

// receiveAcks records the ids of messages until all of them are acknowledged.
func (s *site) receiveAcks(stream grpc.BidiStreamingClient[pealv1.PublishStreamRequest, pealv1.PublishStreamResponse], messages int) error {
	for done := 0; done < messages; {
		reply, err := stream.Recv()
		if err != nil {
			return err
		}

		s.mu.Lock()
		for _, ack := range reply.GetAcks() {
			if e := ack.GetError(); e != nil {
				err = fmt.Errorf("message %d: %s", ack.GetNumber(), e.GetMessage())
			}

			topic := done % s.plan.topics
			s.ids[topic] = append(s.ids[topic], sequenceOf(ack.GetId()))
			done++
		}
		s.mu.Unlock()

		if err != nil {
			return err
		}
	}

	return nil
}

// visit renders a page, opens it, and closes it after a random time.
func (s *site) visit(ctx context.Context) {
	reply, err := s.control.GetPosition(ctx, &pealv1.GetPositionRequest{})
	if err != nil {
		if ctx.Err() == nil {
			s.faultf("get the position: %v", err)
		}

		return
	}

	p := &page{topic: rand.IntN(s.plan.topics), position: reply.GetId(), first: -1, next: -1}

	s.mu.Lock()
	p.state = s.sent[p.topic]
	s.open[p] = struct{}{}
	s.mu.Unlock()

	// The page outlives the last visits, so that it can be complete.
	ctx = context.WithoutCancel(ctx)
	pause(ctx, rand.N(s.plan.pause))

	stay := time.Duration(rand.ExpFloat64() * float64(s.plan.stay))
	if err := p.read(ctx, s.sse, stay); err != nil {
		s.faultf("%v: %v", p, err)
	}

	s.mu.Lock()
	delete(s.open, p)
	s.closed = append(s.closed, p)
	s.mu.Unlock()
}

// incomplete returns the open pages that haven't got all messages.
func (s *site) incomplete() (pages []*page) {
	s.mu.Lock()
	defer s.mu.Unlock()

	for p := range s.open {
		if !p.complete(s.ids[p.topic]) {
			pages = append(pages, p)
		}
	}

	return pages
}

func (s *site) faultf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// check checks what all pages have got.
func (s *site) check(t *testing.T) {
	t.Helper()

	const maxFaults = 10
	for _, fault := range s.faults[:min(len(s.faults), maxFaults)] {
		t.Error(fault)
	}

	events, gaps, duplicates := 0, 0, 0

	for _, p := range s.closed {
		p.check(t, s.ids[p.topic])

		events += p.events
		gaps += p.gaps
		duplicates += p.duplicates
	}

	t.Logf("%d pages got %d events of %d messages: %d gaps, %d duplicates, %d faults",
		len(s.closed), events, int(s.plan.duration.Seconds()*float64(s.plan.rate)), gaps, duplicates, len(s.faults))

	if events == 0 || gaps > 0 || duplicates > 0 || len(s.faults) > 0 {
		t.Error("want some events, and no gaps, duplicates or faults")
	}
}
