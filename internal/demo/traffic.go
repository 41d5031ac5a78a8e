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

// Broker is what the traffic needs of a [broker.Broker].
type Broker interface {
	Publish(ctx context.Context, m broker.Message) (broker.Receipt, error)
	Users(prefix, after string, limit int) []broker.User
}

const (
	broadcastEvery = time.Second
	personalEvery  = 10 * time.Second

	// round is how often the traffic looks who is connected.
	round = time.Second

	// usersAtOnce keeps each look at the broker short.
	usersAtOnce = 200
)

// Run publishes made-up events until ctx ends or the broker closes: to
// everybody one a second on average, and to each user who is connected one
// every ten seconds on average, each at random times. An error is the broker's.
func Run(ctx context.Context, b Broker, random *rand.Rand) error {
	t := &traffic{broker: b, random: random, shop: shop{random}}
	for start := time.Now(); ; start = start.Add(round) {
		if time.Since(start) > round {
			start = time.Now() // the machine slept, and nobody wants what it missed
		}
		for _, next := range t.plan(start) {
			if !sleepUntil(ctx, next.at) {
				return nil
			}
			err := t.publish(ctx, next)
			if _, passes := errors.AsType[*broker.UnavailableError](err); err != nil && !passes {
				return failure(ctx, err)
			}
		}
		if !sleepUntil(ctx, start.Add(round)) {
			return nil
		}
	}
}

// failure is nil where err only says that it is time to end.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, broker.ErrClosed) {
		return nil //nolint:nilerr // the end is no failure
	}
	return fmt.Errorf("demo traffic: %w", err)
}

// traffic is the state of one Run.
type traffic struct {
	broker Broker
	random *rand.Rand
	shop   shop
}

// due is an event that is to be published.
type due struct {
	at   time.Time
	user string // empty for everybody
}

// plan draws what is due in the round that begins at start, in order. The gaps
// of a Poisson process have no memory: so it does no harm to draw anew in every
// round, for whoever is connected then.
func (t *traffic) plan(start time.Time) []due {
	plan := t.draw(nil, start, broadcastEvery, "")
	for after := ""; ; {
		users := t.broker.Users("", after, usersAtOnce)
		for _, user := range users {
			plan = t.draw(plan, start, personalEvery, user.ID)
		}
		if len(users) < usersAtOnce {
			break
		}
		after = users[len(users)-1].ID
	}
	slices.SortFunc(plan, func(a, b due) int { return a.at.Compare(b.at) })
	return plan
}

// draw appends one audience's share of a round.
func (t *traffic) draw(plan []due, start time.Time, every time.Duration, user string) []due {
	gap := func() time.Duration { return time.Duration(t.random.ExpFloat64() * float64(every)) }
	for at := gap(); at < round; at += gap() {
		plan = append(plan, due{start.Add(at), user})
	}
	return plan
}

func (t *traffic) publish(ctx context.Context, next due) error {
	m := broker.Message{Audience: broker.Everyone()}
	var err error
	if next.user == "" {
		m.Data, err = t.shop.news()
	} else {
		m.Audience = broker.ToUser(next.user)
		m.Data, err = t.shop.notice(next.user)
	}
	if err != nil {
		return err
	}
	_, err = t.broker.Publish(ctx, m)
	return err
}

// sleepUntil reports false if ctx ends first.
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
