package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// streamPublisher publishes in one PublishStream call, so that it doesn't have to
// wait for a reply before it sends the next message. It must be used by one
// goroutine at a time.
type streamPublisher struct {
	client pealv1.ControlServiceClient
	stream grpc.BidiStreamingClient[pealv1.PublishStreamRequest, pealv1.PublishStreamResponse]
	cancel context.CancelFunc
	sent   int64
	reader sync.WaitGroup

	mu    sync.Mutex
	acked int64
	err   error      // the reason why no more acknowledgements arrive
	moved *sync.Cond // signals a change to acked or err
}

func newStreamPublisher(ctx context.Context, client pealv1.ControlServiceClient) (*streamPublisher, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := client.PublishStream(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	p := &streamPublisher{client: client, stream: stream, cancel: cancel}
	p.moved = sync.NewCond(&p.mu)
	p.reader.Go(p.readAcks)
	return p, nil
}

// close cancels the call and waits for its goroutine.
func (p *streamPublisher) close() {
	p.cancel()
	p.reader.Wait()
}

func (p *streamPublisher) readAcks() {
	for {
		reply, err := p.stream.Recv()
		for _, ack := range reply.GetAcks() {
			if e := ack.GetError(); e != nil && err == nil {
				err = errors.New(e.GetMessage())
			}
		}

		p.mu.Lock()
		p.acked += int64(len(reply.GetAcks()))
		p.err = err
		p.moved.Broadcast()
		p.mu.Unlock()

		if err != nil {
			return
		}
	}
}

// Publish implements [bench.ChaosPublisher].
func (p *streamPublisher) Publish(_ context.Context, user, topic, data string) error {
	request := &pealv1.PublishStreamRequest{Data: data}
	switch {
	case user != "":
		request.Audience = &pealv1.PublishStreamRequest_UserId{UserId: user}
	case topic != "":
		request.Audience = &pealv1.PublishStreamRequest_Topic{Topic: topic}
	default:
		request.Audience = &pealv1.PublishStreamRequest_Everyone{Everyone: true}
	}

	err := p.stream.Send(request)
	if errors.Is(err, io.EOF) { // the receiving side gets the reason
		return p.wait(func() bool { return false })
	}
	if err == nil {
		p.sent++
	}

	return err
}

// Flush implements [bench.ChaosPublisher].
func (p *streamPublisher) Flush(context.Context) error {
	return p.wait(func() bool { return p.acked >= p.sent })
}

// wait blocks until cond holds. It returns an error once cond can no longer become
// true.
func (p *streamPublisher) wait(cond func() bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !cond() {
		if p.err != nil {
			return p.err
		}
		p.moved.Wait()
	}
	return nil
}

// Token implements [bench.ChaosPublisher].
func (p *streamPublisher) Token(ctx context.Context, user, topic string) (string, error) {
	request := &pealv1.CreateTokenRequest{UserId: user}
	if topic != "" {
		request.Topics = []string{topic}
	}
	reply, err := p.client.CreateToken(ctx, request)
	if err != nil {
		return "", fmt.Errorf("create a token: %w", err)
	}
	return reply.GetToken(), nil
}
