package presence

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	presencev1 "github.com/peald/peald/gen/peal/presence/v1"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// namesPerMessage is the maximum number of names in a message. A name has at most 255
// bytes, and NATS accepts messages of up to 1 MiB by default.
const namesPerMessage = 2000

// announce announces what has changed. At least once per announceInterval, it also
// announces that this node is running.
func (d *Directory) announce(now time.Time) {
	users, topics, bans, complete := d.changes.Take()
	if !complete {
		d.number++ // other nodes notice the missing number and request the full state
	}
	d.noteOwn(users, topics, complete)
	due := now.Sub(d.announced) >= announceInterval
	status, duties := d.status(), d.ownDuties()
	if !due && d.lastStatus != nil && status.GetState() == d.lastStatus.GetState() && slices.Equal(duties, d.lastDuties) {
		status = nil
		if len(users)+len(topics)+len(bans) == 0 && complete {
			return
		}
	}

	for {
		a := &presencev1.Announcement{Status: status, Changed: new(presencev1.Counts)}
		names := namesPerMessage
		users = take(users, &names, func(u broker.User) { a.Changed.Users = append(a.Changed.Users, countOf(u.ID, u.Connections)) })
		topics = take(topics, &names, func(t broker.Topic) { a.Changed.Topics = append(a.Changed.Topics, countOf(t.Name, t.Subscribers)) })
		bans = take(bans, &names, func(b broker.Ban) { a.Changed.Bans = append(a.Changed.Bans, encodeBan(b, now)) })
		if status != nil {
			a.Duties = duties
		}
		d.publish(a)
		if status != nil {
			d.lastStatus, d.lastDuties, d.announced, status = status, duties, now, nil
		}
		if len(users)+len(topics)+len(bans) == 0 {
			return
		}
	}
}

// take passes up to *limit rows to add, subtracts their number from *limit, and returns
// the remaining rows.
func take[R any](rows []R, limit *int, add func(R)) []R {
	n := min(len(rows), *limit)
	for _, row := range rows[:n] {
		add(row)
	}
	*limit -= n
	return rows[n:]
}

func countOf(name string, streams int) *presencev1.Count {
	return &presencev1.Count{Name: name, Streams: uint32(streams)}
}

func encodeBan(b broker.Ban, now time.Time) *presencev1.Ban {
	return &presencev1.Ban{User: b.User, Ago: durationpb.New(now.Sub(b.Set)), Remaining: durationpb.New(b.Until.Sub(now))}
}

// publish completes a and sends it as the next announcement. If sending fails, other
// nodes notice that its number is missing.
func (d *Directory) publish(a *presencev1.Announcement) {
	d.number++
	tally := d.cfg.Broker.Tally()
	a.Node, a.Incarnation, a.Number = d.cfg.Node, d.incarnation, d.number
	a.Streams, a.Anonymous = uint32(tally.Streams), uint32(tally.Anonymous)
	a.Hello = d.hello
	if d.send(d.subject("announce"), a) {
		d.hello = false
		d.metrics.sent.Inc()
	}
}

// send publishes m, and reports whether that succeeded.
func (d *Directory) send(subject string, m proto.Message) (ok bool) {
	data, err := proto.Marshal(m)
	if err == nil {
		err = d.cfg.Conn.Publish(subject, data)
	}
	if err != nil {
		d.log.Debug("cannot send to other nodes", "error", err)
		return false
	}
	d.metrics.sentBytes.Add(float64(len(data)))
	return true
}

// leave announces that this node is leaving the cluster.
func (d *Directory) leave() {
	d.publish(&presencev1.Announcement{Leaving: true, Status: &pealv1.Node{}})
	if err := d.cfg.Conn.FlushTimeout(announceInterval); err != nil {
		d.log.Debug("cannot announce that the node is leaving", "error", err)
	}
}
