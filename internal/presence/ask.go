package presence

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	presencev1 "github.com/peald/peald/gen/peal/presence/v1"
)

const (
	// askFor is how long others may take to answer.
	askFor = time.Second
	// questionsAtOnce are answered, and questionsWaiting wait for that; those
	// beyond get no answer.
	questionsAtOnce  = 4
	questionsWaiting = 256
)

// Ask has all other daemons answer a call, and hands each answer to hear, one
// at a time. It returns who has not answered within a second, or within three
// quarters of the time that ctx leaves, in order of name.
func (d *Directory) Ask(ctx context.Context, method string, request []byte, hear func(node string, response []byte)) (missing []string) {
	awaited, missing, _ := d.others()
	if len(awaited) == 0 {
		return sorted(missing)
	}
	wait := askFor
	if deadline, ok := ctx.Deadline(); ok {
		// The answers that are there are to get to the caller.
		wait = min(wait, time.Until(deadline)*3/4)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	failed, err := d.ask(ctx, method, request, awaited, hear)
	if err != nil {
		d.log.Debug("cluster query failed", "method", method, "error", err)
	}
	missing = append(missing, failed...)
	for _, name := range awaited {
		missing = append(missing, name)
	}
	d.figures.unanswered.Add(float64(len(awaited) + len(failed)))
	return sorted(missing)
}

func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// ask takes those who have replied out of awaited, and returns the names of those
// whose reply was an error: they are not waited for any longer.
func (d *Directory) ask(ctx context.Context, method string, request []byte, awaited map[uint64]string, hear func(node string, response []byte)) (failed []string, err error) {
	question, err := proto.Marshal(&presencev1.Question{Incarnation: d.incarnation, Method: method, Request: request})
	if err != nil {
		return nil, err
	}
	inbox := d.cfg.Conn.NewInbox()
	answers, err := d.cfg.Conn.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := d.cfg.Conn.PublishRequest(d.subject("ask"), inbox, question); err != nil {
		return nil, err
	}
	for len(awaited) > 0 {
		msg, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			return nil, err
		}
		answer := new(presencev1.Answer)
		if err := proto.Unmarshal(msg.Data, answer); err != nil {
			d.log.Warn("malformed reply to a cluster query", "method", method, "error", err)
			continue
		}
		name, asked := awaited[answer.GetIncarnation()]
		if why := answer.GetError(); why != "" {
			d.log.Warn("a node could not answer", "node", answer.GetNode(), "method", method, "error", why)
			if asked {
				failed = append(failed, name)
				delete(awaited, answer.GetIncarnation())
			}
			continue
		}
		delete(awaited, answer.GetIncarnation())
		hear(answer.GetNode(), answer.GetResponse())
	}
	return failed, nil
}

// answering answers other daemons.
type answering struct {
	directory *Directory
	answers   Answerer
	asked     chan *nats.Msg
	followed  chan *nats.Msg
	subs      []*nats.Subscription

	mu        sync.Mutex
	followers map[string]*follower // by inbox
}

func newAnswering(d *Directory, answers Answerer) *answering {
	return &answering{
		directory: d, answers: answers,
		asked:     make(chan *nats.Msg, questionsWaiting),
		followed:  make(chan *nats.Msg, questionsWaiting),
		followers: make(map[string]*follower),
	}
}

func (a *answering) listen() error {
	d := a.directory
	for subject, to := range map[string]chan *nats.Msg{
		d.subject("ask"):                     a.asked,
		d.subjectOf("follow", d.incarnation): a.followed,
	} {
		sub, err := d.cfg.Conn.ChanSubscribe(subject, to)
		if err != nil {
			return fmt.Errorf("listening to other nodes: %w", err)
		}
		a.subs = append(a.subs, sub)
	}
	return nil
}

// run answers until ctx ends.
func (a *answering) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for range questionsAtOnce {
		running.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case msg := <-a.asked:
					a.answer(ctx, msg)
				}
			}
		})
	}
	for {
		select {
		case <-ctx.Done():
			for _, sub := range a.subs {
				_ = sub.Unsubscribe()
			}
			return
		case msg := <-a.followed:
			a.follow(ctx, msg, &running)
		}
	}
}

func (a *answering) answer(ctx context.Context, msg *nats.Msg) {
	d := a.directory
	question := new(presencev1.Question)
	if err := proto.Unmarshal(msg.Data, question); err != nil {
		d.log.Warn("a question can't be read", "error", err)
		return
	}
	if question.GetIncarnation() == d.incarnation {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	answer := &presencev1.Answer{Incarnation: d.incarnation, Node: d.cfg.Node}
	response, err := a.answers.Answer(ctx, question.GetMethod(), question.GetRequest())
	if err != nil {
		answer.Error = err.Error()
	} else {
		answer.Response = response
	}
	d.send(msg.Reply, answer)
}
