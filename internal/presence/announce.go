package presence

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	presencev1 "github.com/peald/peald/gen/peal/presence/v1"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// namesTogether is how many names are told in one message. They are of at most
// 255 bytes, and NATS takes messages of 1 MiB by default.
const namesTogether = 2000

// announce tells others what has changed, and from time to time that the daemon
// is there.
func (d *Directory) announce(now time.Time) {
	users, topics, bars, complete := d.changes.Take()
	if !complete {
		d.number++ // that one misses, who then asks for all
	}
	due := now.Sub(d.announced) >= announceEvery
	standing := d.standing()
	if !due && d.said != nil && standing.GetState() == d.said.GetState() {
		standing = nil
		if len(users)+len(topics)+len(bars) == 0 && complete {
			return
		}
	}
	for {
		a := &presencev1.Announcement{Standing: standing, Changed: new(presencev1.Counts)}
		room := namesTogether
		users = some(users, &room, func(u broker.User) { a.Changed.Users = append(a.Changed.Users, countOf(u.ID, u.Connections)) })
		topics = some(topics, &room, func(t broker.Topic) { a.Changed.Topics = append(a.Changed.Topics, countOf(t.Name, t.Subscribers)) })
		bars = some(bars, &room, func(bar broker.Bar) { a.Changed.Bars = append(a.Changed.Bars, toldBar(bar, now)) })
		d.publish(a)
		if standing != nil {
			d.said, d.announced, standing = standing, now, nil
		}
		if len(users)+len(topics)+len(bars) == 0 {
			return
		}
	}
}

// some hands as many of rows to tell as there is room for, and returns the rest.
func some[R any](rows []R, room *int, tell func(R)) []R {
	n := min(len(rows), *room)
	for _, row := range rows[:n] {
		tell(row)
	}
	*room -= n
	return rows[n:]
}

func countOf(name string, streams int) *presencev1.Count {
	return &presencev1.Count{Name: name, Streams: uint32(streams)}
}

func toldBar(bar broker.Bar, now time.Time) *presencev1.Bar {
	return &presencev1.Bar{User: bar.User, Ago: durationpb.New(now.Sub(bar.Set)), Remaining: durationpb.New(bar.Until.Sub(now))}
}

// publish sends the next announcement. One that can't be sent is one that
// others miss.
func (d *Directory) publish(a *presencev1.Announcement) {
	d.number++
	tally := d.cfg.Broker.Tally()
	a.Node, a.Incarnation, a.Number = d.cfg.Node, d.incarnation, d.number
	a.Streams, a.Anonymous = uint32(tally.Streams), uint32(tally.Anonymous)
	a.Hello = d.hello
	if d.send(d.subject("announce"), a) {
		d.hello = false
		d.figures.told.Inc()
	}
}

func (d *Directory) send(subject string, m proto.Message) bool {
	data, err := proto.Marshal(m)
	if err == nil {
		err = d.cfg.Conn.Publish(subject, data)
	}
	if err != nil {
		d.log.Debug("other nodes can't be told", "error", err)
		return false
	}
	d.figures.toldBytes.Add(float64(len(data)))
	return true
}

// leave tells others that the daemon ends.
func (d *Directory) leave() {
	d.publish(&presencev1.Announcement{Leaving: true, Standing: &pealv1.Node{}})
	if err := d.cfg.Conn.FlushTimeout(announceEvery); err != nil {
		d.log.Debug("other nodes may not know that this one leaves", "error", err)
	}
}
