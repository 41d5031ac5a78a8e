package presence

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	presencev1 "github.com/peald/peald/gen/peal/presence/v1"
)

const (
	// pieceBytes is how much goes into a piece, unless a single response is
	// longer, and gatherFor how long it may wait for more.
	pieceBytes = 64 << 10
	gatherFor  = 20 * time.Millisecond
	// toldAhead are responses that wait to go into a piece, and piecesAhead
	// pieces are sent before the first of them has to have arrived.
	toldAhead   = 256
	piecesAhead = 32
	// lifeEvery is how often both sides say something.
	lifeEvery = time.Second
	// lifeless is how long the other may be silent.
	lifeless = 5 * time.Second
)

// errFollowerGone ends what is told.
var errFollowerGone = errors.New("the follower is gone")

// follower is another daemon that is told what a call goes on to answer.
type follower struct {
	inbox string
	end   context.CancelCauseFunc
	told  chan []byte
	heard chan uint64 // the last piece that has arrived there
}

// follow begins to tell another daemon, or takes in what has arrived there.
func (a *answering) follow(ctx context.Context, msg *nats.Msg, running *sync.WaitGroup) {
	said := new(presencev1.Follow)
	if err := proto.Unmarshal(msg.Data, said); err != nil {
		a.directory.log.Warn("a follower can't be understood", "error", err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.followers[said.GetInbox()]
	switch {
	case f != nil && said.GetEnd():
		f.end(errFollowerGone)
	case f != nil:
		select {
		case f.heard <- said.GetArrived():
		default: // the next one says as much
		}
	case said.GetMethod() != "":
		one, end := context.WithCancelCause(ctx)
		f = &follower{said.GetInbox(), end, make(chan []byte, toldAhead), make(chan uint64, piecesAhead)}
		a.followers[f.inbox] = f
		running.Go(func() {
			told, err := a.tell(one, f, said.GetMethod(), said.GetRequest())
			// That the daemon leaves, it says itself.
			if ctx.Err() == nil && !errors.Is(context.Cause(one), errFollowerGone) {
				a.sayEnd(f, told, err)
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			delete(a.followers, f.inbox)
			end(nil)
		})
	}
}

// tell has a call answered, and sends what it tells, until it ends. It returns
// how many pieces it has sent, and why the call has ended.
func (a *answering) tell(ctx context.Context, f *follower, method string, request []byte) (sent uint64, err error) {
	var sending sync.WaitGroup
	sending.Go(func() {
		var err error
		if sent, err = a.sendPieces(ctx, f); err != nil {
			f.end(err)
		}
	})
	err = a.answers.Tell(ctx, method, request, func(response []byte) error {
		select {
		case f.told <- response:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(f.told)
	sending.Wait()
	return sent, err
}

// sayEnd says to a follower that it is told no more.
func (a *answering) sayEnd(f *follower, sent uint64, why error) {
	end := &presencev1.Piece{Number: sent + 1, End: true}
	if why != nil {
		end.Error = why.Error()
	}
	a.directory.send(f.inbox, end)
}

// pieces are what is sent to a follower. It belongs to the goroutine that sends.
type pieces struct {
	directory *Directory
	inbox     string
	next      *presencev1.Piece
	bytes     int    // in the next one
	sent      uint64 // pieces
	arrived   uint64 // of them, as the follower says
}

// full says whether the next piece can't wait for more.
func (p *pieces) full() bool { return p.bytes >= pieceBytes }

// mayGo says whether a piece may be sent before others have arrived.
func (p *pieces) mayGo() bool { return p.sent-p.arrived < piecesAhead }

func (p *pieces) add(response []byte) {
	p.next.Responses = append(p.next.GetResponses(), response)
	p.bytes += len(response)
}

func (p *pieces) send() {
	p.sent++
	p.next.Number = p.sent
	p.directory.send(p.inbox, p.next)
	p.next, p.bytes = &presencev1.Piece{}, 0
}

// sendPieces sends what is told, until that is closed. It returns how many
// pieces it has sent.
func (a *answering) sendPieces(ctx context.Context, f *follower) (sent uint64, _ error) {
	p := &pieces{directory: a.directory, inbox: f.inbox, next: &presencev1.Piece{}}
	heard := time.Now()
	life, gather := time.NewTicker(lifeEvery), time.NewTicker(gatherFor)
	defer life.Stop()
	defer gather.Stop()
	for {
		told := f.told
		if p.full() {
			told = nil // it has to go first
		}
		select {
		case response, ok := <-told:
			if !ok {
				p.send()
				return p.sent, nil
			}
			if p.bytes == 0 {
				gather.Reset(gatherFor)
			}
			p.add(response)
		case <-gather.C:
			if p.bytes == 0 {
				gather.Stop()
			} else if p.mayGo() {
				p.send()
			}
		case number := <-f.heard:
			p.arrived, heard = max(p.arrived, number), time.Now()
		case now := <-life.C:
			if now.Sub(heard) > lifeless {
				return p.sent, errFollowerGone
			}
			if p.bytes == 0 && p.mayGo() {
				p.send() // a sign of life
			}
		case <-ctx.Done():
			return p.sent, context.Cause(ctx)
		}
		if p.full() && p.mayGo() {
			p.send()
		}
	}
}
