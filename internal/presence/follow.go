package presence

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	presencev1 "github.com/peald/peald/gen/peal/presence/v1"
)

// followAgain is the time between two attempts to follow a daemon.
const followAgain = 250 * time.Millisecond

// Hearing is what a follower hears. Its methods are called one at a time.
type Hearing = interface {
	// Hear is called with what a daemon tells, the next responses in order.
	Hear(node string, responses [][]byte)
	// Again is called when a daemon is about to tell from the beginning, since
	// something of what it told is missing.
	Again(node string)
	// Gone is called when nothing more is to be expected of a daemon.
	Gone(node string)
}

// Follow has all other daemons go on answering a call, and those that come
// later too, until ctx ends. Begun is called once with the names of those who
// were there.
func (d *Directory) Follow(ctx context.Context, method string, request []byte, hearing Hearing, begun func(nodes []string)) {
	var (
		running sync.WaitGroup
		turn    sync.Mutex // of hearing
		all     = make(map[uint64]func())
	)
	defer running.Wait()
	for first := true; ; first = false {
		known, _, change := d.others()
		if first {
			names := make([]string, 0, len(known))
			for _, name := range known {
				names = append(names, name)
			}
			begun(names)
		}
		// Before the same daemon is followed that was started anew.
		for incarnation, end := range all {
			if _, ok := known[incarnation]; !ok {
				end()
				delete(all, incarnation)
			}
		}
		for incarnation, name := range known {
			if all[incarnation] != nil {
				continue
			}
			ctx, cancel := context.WithCancel(ctx)
			done := make(chan struct{})
			all[incarnation] = func() { cancel(); <-done }
			f := following{d, &turn, hearing, method, request, name, incarnation, false}
			running.Go(func() {
				defer close(done)
				f.run(ctx)
			})
		}
		select {
		case <-ctx.Done():
			for _, end := range all {
				end()
			}
			return
		case <-change:
		}
	}
}

// following is the following of one daemon.
type following struct {
	directory   *Directory
	turn        *sync.Mutex
	hearing     Hearing
	method      string
	request     []byte
	node        string
	incarnation uint64
	heard       bool // something
}

// run follows until ctx ends.
func (f *following) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := f.once(ctx)
		if ctx.Err() != nil {
			break
		}
		f.directory.log.Debug("a node is to tell from the beginning", "node", f.node, "method", f.method, "error", err)
		if f.heard {
			f.turn.Lock()
			f.hearing.Again(f.node)
			f.turn.Unlock()
			f.heard = false
		}
		select {
		case <-ctx.Done():
		case <-time.After(followAgain):
		}
	}
	f.turn.Lock()
	defer f.turn.Unlock()
	f.hearing.Gone(f.node)
}

// once follows until something is missing, or ctx ends.
func (f *following) once(ctx context.Context) error {
	d := f.directory
	inbox := d.cfg.Conn.NewInbox()
	pieces := make(chan *nats.Msg, 2*piecesAhead)
	sub, err := d.cfg.Conn.ChanSubscribe(inbox, pieces)
	if err != nil {
		return fmt.Errorf("following a node: %w", err)
	}
	subject := d.subjectOf("follow", f.incarnation)
	defer func() {
		_ = sub.Unsubscribe()
		d.send(subject, &presencev1.Follow{Inbox: inbox, End: true})
	}()
	if !d.send(subject, &presencev1.Follow{Inbox: inbox, Method: f.method, Request: f.request}) {
		return errors.New("it can't be reached")
	}
	life := time.NewTicker(lifeEvery)
	defer life.Stop()
	heard, arrived := time.Now(), uint64(0)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-life.C:
			if now.Sub(heard) > lifeless {
				return errors.New("it is silent")
			}
			d.send(subject, &presencev1.Follow{Inbox: inbox, Arrived: arrived})
		case msg := <-pieces:
			piece := new(presencev1.Piece)
			if err := proto.Unmarshal(msg.Data, piece); err != nil {
				return fmt.Errorf("a piece can't be read: %w", err)
			}
			if piece.GetNumber() != arrived+1 {
				return fmt.Errorf("piece %d came after %d", piece.GetNumber(), arrived)
			}
			heard, arrived = time.Now(), piece.GetNumber()
			if len(piece.GetResponses()) > 0 {
				f.heard = true
				f.turn.Lock()
				f.hearing.Hear(f.node, piece.GetResponses())
				f.turn.Unlock()
				d.send(subject, &presencev1.Follow{Inbox: inbox, Arrived: arrived})
			}
			if piece.GetEnd() {
				return fmt.Errorf("it has ended: %s", piece.GetError())
			}
		}
	}
}
