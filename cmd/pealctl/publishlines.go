package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// publishLines publishes the messages in a file, one line of JSON each, over one
// PublishStream.
func (s *session) publishLines(ctx context.Context, file string) (err error) {
	input, size := s.stdin, int64(0)
	if file != "-" {
		f, err := os.Open(file) //nolint:gosec // The user of the command chooses the path.
		if err != nil {
			return fmt.Errorf("--batch: %w", err)
		}
		defer func() { _ = f.Close() }() // nothing was written to it
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		input = f
	}

	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := pealv1.NewControlServiceClient(conn).PublishStream(ctx)
	if err != nil {
		return err
	}

	p := &linePublisher{session: s, stream: stream, cancel: cancel, interactive: size == 0}
	if out := terminal(s.stderr); out != nil {
		p.bar = startLineBar(out, size)
	}
	p.stalled = time.AfterFunc(s.timeout, p.giveUp)
	p.stalled.Stop()
	defer p.stalled.Stop()
	err = p.run(ctx, input)
	p.bar.stop(err == nil)
	return p.report(err)
}

// linePublisher publishes lines and matches acknowledgements to them.
type linePublisher struct {
	session *session
	stream  grpc.BidiStreamingClient[pealv1.PublishStreamRequest, pealv1.PublishStreamResponse]
	cancel  context.CancelCauseFunc
	bar     *lineBar    // nil for none
	stalled *time.Timer // cancels the call if no acknowledgement arrives

	interactive bool // reading the input may block

	mu        sync.Mutex
	pending   []pendingLine // lines without a result, in order
	published int
	failed    int
	writeErr  error // from writing results
}

// pendingLine is a line whose result hasn't been reported.
type pendingLine struct {
	number int
	bytes  int
	err    error // set if the line could not be sent
}

// errNoAck is the reason for a call that is canceled because the daemon doesn't
// acknowledge messages.
var errNoAck = status.Error(codes.DeadlineExceeded, "")

func (p *linePublisher) giveUp() { p.cancel(errNoAck) }

// run publishes all lines of the input. It returns an error if it couldn't publish or
// read all of them.
func (p *linePublisher) run(ctx context.Context, input io.Reader) error {
	read := make(chan error, 1)
	go func() { read <- p.send(input) }()

	for {
		reply, err := p.stream.Recv()
		if errors.Is(err, io.EOF) {
			return errors.Join(<-read, p.writeErr)
		}
		if err != nil {
			p.cancel(err)
			if !p.interactive { // a blocked read can't be canceled
				<-read //nolint:errcheck // err is why sending has failed
			}
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
				return cause
			}
			return err
		}
		for _, ack := range reply.GetAcks() {
			p.acknowledged(ack)
		}
	}
}

// send sends the lines of the input, and then ends the sending side of the stream.
func (p *linePublisher) send(input io.Reader) error {
	lines := newLineReader(input)
	for {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return p.stream.CloseSend()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read the messages: %w", err), p.stream.CloseSend())
		}
		if line.blank() {
			continue
		}

		request, err := line.message()
		p.add(pendingLine{line.number, line.bytes, err})
		if err != nil {
			continue
		}
		if err := p.stream.Send(request); err != nil {
			return nil //nolint:nilerr // the receiving side gets the reason
		}
	}
}

// add adds a line, and reports it if it failed and no result for an earlier one is
// outstanding.
func (p *linePublisher) add(line pendingLine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending = append(p.pending, line); len(p.pending) == 1 && line.err == nil {
		p.stalled.Reset(p.session.timeout)
	}
	p.reportUnsent()
}

// acknowledged reports the result of the next line that was sent.
func (p *linePublisher) acknowledged(ack *pealv1.PublishAck) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pending) == 0 {
		return // the daemon has acknowledged a message that wasn't sent
	}
	line := p.pending[0]
	p.pending = p.pending[1:]
	if e := ack.GetError(); e != nil {
		p.fail(line, errors.New(e.GetMessage()))
	} else {
		p.published++
		p.write(lineResult{Line: line.number, ID: ack.GetId(), Recipients: new(ack.GetRecipients())})
	}
	p.bar.advance(line.bytes)
	p.reportUnsent()
	if len(p.pending) == 0 {
		p.stalled.Stop()
	} else {
		p.stalled.Reset(p.session.timeout)
	}
}

// reportUnsent reports the first lines if they could not be sent. The caller must hold
// p.mu.
func (p *linePublisher) reportUnsent() {
	for len(p.pending) > 0 && p.pending[0].err != nil {
		p.fail(p.pending[0], p.pending[0].err)
		p.bar.advance(p.pending[0].bytes)
		p.pending = p.pending[1:]
	}
}

// fail reports an error in a line. The caller must hold p.mu.
func (p *linePublisher) fail(line pendingLine, err error) {
	p.failed++
	p.bar.log(p.session.stderr, fmt.Sprintf("pealctl: line %d: %s", line.number, escaped(err.Error())))
	p.write(lineResult{Line: line.number, Error: err.Error()})
}

// lineResult is the result of one line, as printed with --output json.
type lineResult struct {
	Line       int    `json:"line"`
	ID         string `json:"id,omitempty"`
	Recipients *int32 `json:"recipients,omitempty"`
	Error      string `json:"error,omitempty"`
}

// write prints a result in JSON, if that is the output format. The caller must hold p.mu.
func (p *linePublisher) write(r lineResult) {
	if !p.session.output.json || p.writeErr != nil {
		return
	}
	text, err := json.Marshal(r)
	if err == nil {
		_, err = fmt.Fprintf(p.session.stdout, "%s\n", text)
	}
	p.writeErr = err
}

// report prints a summary as a table, and returns the error for the lines that weren't
// published. err is why not all lines have a result; nil if they do.
func (p *linePublisher) report(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.session.output.json {
		t := newTable()
		t.AppendHeader(table.Row{"published", "failed", "unknown"})
		t.AppendRow(table.Row{p.published, p.failed, len(p.pending)})
		if _, writeErr := fmt.Fprintln(p.session.stdout, t.Render()); writeErr != nil && err == nil {
			err = writeErr
		}
	}

	n := len(p.pending)
	if err == nil && n > 0 {
		err = errors.New("the daemon ended the call without a result")
	}
	switch {
	case err != nil && n == 1:
		return fmt.Errorf("line %d may not have been published: %w", p.pending[0].number, err)
	case err != nil && n > 0:
		return fmt.Errorf("lines %d to %d may not have been published: %w", p.pending[0].number, p.pending[n-1].number, err)
	case err != nil:
		return err
	case p.failed > 0:
		return fmt.Errorf("%d of %d messages were rejected", p.failed, p.failed+p.published)
	}
	return nil
}
