package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/peald/peald/internal/broker"
)

// Traffic publishes made-up events, and holds streams for made-up visitors.
type Traffic struct {
	Broker Broker
	// Streams opens the visitors' streams. If it is nil, there are no visitors.
	Streams Streams
	Random  *rand.Rand
}

// Broker publishes events and lists the connected users.
type Broker interface {
	Publisher
	Users(prefix, after string, limit int) []broker.User
}

const (
	broadcastEvery = time.Second
	topicEvery     = time.Second / 2
	personalEvery  = 10 * time.Second

	// round is how often the connected users are looked up.
	round = time.Second

	// usersAtOnce keeps each call to Users short.
	usersAtOnce = 200
)

// Run publishes until ctx is done or the broker closes. On average it broadcasts
// one event a second, publishes two to topics, and sends one to each connected
// user every ten seconds, all at random times. Any error comes from the broker.
func (t Traffic) Run(ctx context.Context) error {
	r := &run{Traffic: t, shop: shop{t.Random}, visitors: newVisitors(t.Streams, t.Random)}
	defer r.visitors.leave()

	for start := time.Now(); ; start = start.Add(round) {
		if time.Since(start) > round {
			start = time.Now() // the machine was suspended; skip what was due in the meantime
		}

		r.visitors.comeAndGo()

		for _, next := range r.plan(start) {
			if !sleepUntil(ctx, next.at) {
				return nil
			}

			err := r.publish(ctx, next)
			if _, temporary := errors.AsType[*broker.UnavailableError](err); err != nil && !temporary {
				return failure(ctx, err)
			}
		}

		if !sleepUntil(ctx, start.Add(round)) {
			return nil
		}
	}
}

// failure returns nil if err only means that the daemon is shutting down.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, broker.ErrClosed) {
		return nil //nolint:nilerr // a shutdown isn't a failure
	}

	return fmt.Errorf("demo traffic: %w", err)
}

// run is the state of one call to Run.
type run struct {
	Traffic

	shop     shop
	visitors *visitors
}

// due is an event to publish at a certain time.
type due struct {
	at      time.Time
	user    string // of an event for one user
	toTopic bool
}

// plan draws the events for the round that begins at start, in chronological
// order. The gaps of a Poisson process have no memory, so each round can be
// planned independently, for the users who are connected at the time.
func (r *run) plan(start time.Time) []due {
	plan := r.draw(nil, start, broadcastEvery, due{})
	plan = r.draw(plan, start, topicEvery, due{toTopic: true})

	for after := ""; ; {
		users := r.Broker.Users("", after, usersAtOnce)
		for _, user := range users {
			plan = r.draw(plan, start, personalEvery, due{user: user.ID})
		}

		if len(users) < usersAtOnce {
			break
		}

		after = users[len(users)-1].ID
	}

	slices.SortFunc(plan, func(a, b due) int { return a.at.Compare(b.at) })

	return plan
}

// draw appends one audience's events for a round.
func (r *run) draw(plan []due, start time.Time, every time.Duration, event due) []due {
	gap := func() time.Duration { return time.Duration(r.Random.ExpFloat64() * float64(every)) }

	for at := gap(); at < round; at += gap() {
		event.at = start.Add(at)
		plan = append(plan, event)
	}

	return plan
}

func (r *run) publish(ctx context.Context, next due) error {
	m := broker.Message{Audience: broker.Everyone()}

	var err error

	switch {
	case next.user != "":
		m.Audience = broker.ToUser(next.user)
		m.Data, err = r.shop.notice(next.user)
	case next.toTopic:
		topic := r.shop.topic()
		m.Audience = broker.ToTopic(topic)
		m.Data, err = r.shop.update(topic)
	default:
		m.Data, err = r.shop.news()
	}

	if err != nil {
		return err
	}

	_, err = r.Broker.Publish(ctx, m)

	return err
}

// sleepUntil sleeps until the given time. It returns false if ctx is done first.
func sleepUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()

	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
