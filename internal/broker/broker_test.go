package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

func TestAudiences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		alice1 := connect(t, b, broker.Subscription{User: "alice"}, -1)
		alice2 := connect(t, b, broker.Subscription{User: "alice"}, -1)
		bob := connect(t, b, broker.Subscription{User: "bob"}, -1)
		anonymous := connect(t, b, broker.Subscription{}, -1)

		all := publish(t, b, toAll("for all"))
		one := publish(t, b, toUser("alice", "for alice"))
		none := publish(t, b, toUser("carol", "for nobody here"))
		typed := publish(t, b, broker.Message{Audience: broker.Everyone(), Event: "price", Data: "a\r\nb"})
		synctest.Wait()

		for _, r := range []struct {
			receipt broker.Receipt
			want    int
		}{{all, 4}, {one, 2}, {none, 0}, {typed, 4}} {
			if r.receipt.Recipients != r.want {
				t.Errorf("event %s has %d recipients, want %d", r.receipt.ID, r.receipt.Recipients, r.want)
			}
		}

		everyones := []received{{"broadcast", "for all", all.ID}, {"price", "a\nb", typed.ID}}
		alices := []received{everyones[0], {"individual", "for alice", one.ID}, everyones[1]}
		for name, c := range map[string]struct {
			*client
			want []received
		}{"alice1": {alice1, alices}, "alice2": {alice2, alices}, "bob": {bob, everyones}, "anonymous": {anonymous, everyones}} {
			if got := c.events(); !slices.Equal(got, c.want) {
				t.Errorf("%s got %q, want %q", name, got, c.want)
			}
		}
	})
}

func TestIDsAreSequential(t *testing.T) {
	b := broker.New(config())
	defer b.Close()
	first := publish(t, b, toAll("x"))
	second := publish(t, b, toUser("alice", "x"))
	epoch, _, _ := strings.Cut(first.ID, "-")
	if first.ID != epoch+"-1" || second.ID != epoch+"-2" {
		t.Errorf("ids %q and %q, want EPOCH-1 and EPOCH-2", first.ID, second.ID)
	}
}

func TestStreamStartsWithPreambleAndRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		c := &client{room: -1, stream: b.NewStream(broker.Subscription{})}
		if err := c.stream.Start(c, broker.Opening{Head: []byte("HTTP/1.1 200 OK\r\n\r\n")}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		rest, ok := strings.CutPrefix(c.text(), "HTTP/1.1 200 OK\r\n\r\nretry: ")
		var retry int
		if n, _ := fmt.Sscanf(rest, "%d\n:", &retry); !ok || n != 1 || !strings.HasSuffix(rest, "\n\n") || retry < 2250 || retry >= 3750 {
			t.Errorf("the stream starts with %q, want the preamble and a block with retry: 2250 to 3750", c.text())
		}
	})
}

func TestClosedStreamsLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		gone := connect(t, b, broker.Subscription{User: "alice"}, -1)
		remaining := connect(t, b, broker.Subscription{User: "alice"}, -1)
		broken := connect(t, b, broker.Subscription{User: "bob"}, -1)
		synctest.Wait()
		gone.stream.HangUp()
		gone.stream.HangUp()
		broken.fail()
		synctest.Wait()
		if closed, why := gone.closed(); !closed || why != broker.HungUp {
			t.Errorf("stream that hung up: closed %v, reason %v", closed, why)
		}

		publish(t, b, toAll("x"))
		synctest.Wait()
		if closed, why := broken.closed(); !closed || why != broker.WriteFailed {
			t.Errorf("broken stream: closed %v, reason %v", closed, why)
		}

		if got := publish(t, b, toUser("alice", "y")).Recipients; got != 1 {
			t.Errorf("alice has %d recipients, want 1", got)
		}

		synctest.Wait()
		if got := remaining.data(); !slices.Equal(got, []string{"x", "y"}) {
			t.Errorf("the remaining stream got %q", got)
		}

		if users := b.Users("", "", 10); len(users) != 1 || users[0].ID != "alice" || users[0].Connections != 1 {
			t.Errorf("users %+v, want alice with one stream", users)
		}

		s := b.Stats().Total
		if s.Connections != 1 || s.Connected != 3 || s.Disconnected["hung_up"] != 1 || s.Disconnected["write_failed"] != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestUsersArePaged(t *testing.T) {
	b := broker.New(config())
	defer b.Close()
	for _, u := range []string{"b2", "a", "b1", "ç", "b3", "c", "b2"} {
		connect(t, b, broker.Subscription{User: u}, -1)
	}
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          string
	}{
		{"", "", 100, "a b1 b2 b3 c ç"}, {"", "", 2, "a b1"}, {"", "b1", 2, "b2 b3"}, {"b", "", 100, "b1 b2 b3"},
		{"b", "b2", 100, "b3"}, {"b", "z", 100, ""}, {"x", "", 100, ""}, {"", "ç", 5, ""}, {"c", "a", 5, "c"},
	} {
		var ids []string
		for _, u := range b.Users(c.prefix, c.after, c.limit) {
			ids = append(ids, u.ID)
		}
		if got := strings.Join(ids, " "); got != c.want {
			t.Errorf("prefix %q after %q limit %d: %q, want %q", c.prefix, c.after, c.limit, got, c.want)
		}
	}
}

func TestInvalidMessages(t *testing.T) {
	b := broker.New(config())
	defer b.Close()
	for name, c := range map[string]struct {
		m     broker.Message
		field string
	}{
		"no audience":          {broker.Message{Data: "x"}, "audience"},
		"empty data":           {toAll(""), "data"},
		"data too long":        {toAll(strings.Repeat("x", broker.MaxData+1)), "data"},
		"data not UTF-8":       {toAll("a\xff"), "data"},
		"type with LF":         {broker.Message{Audience: broker.Everyone(), Event: "a\nb", Data: "x"}, "event"},
		"type with NUL":        {broker.Message{Audience: broker.Everyone(), Event: "a\x00", Data: "x"}, "event"},
		"reserved type":        {broker.Message{Audience: broker.Everyone(), Event: "peald.reset", Data: "x"}, "event"},
		"empty user":           {toUser("", "x"), "user_id"},
		"user too long":        {toUser(strings.Repeat("u", 256), "x"), "user_id"},
		"user with control":    {toUser("a\x1bb", "x"), "user_id"},
		"user with C1 control": {toUser("a\u0085b", "x"), "user_id"},
	} {
		_, err := b.Publish(t.Context(), c.m)
		if invalid, ok := errors.AsType[*broker.InvalidError](err); !ok || invalid.Field != c.field {
			t.Errorf("%s: error %v, want one for field %s", name, err, c.field)
		}
	}

	if got := b.Stats().Published; got != 0 {
		t.Errorf("%d events were published", got)
	}
}

func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		var clients []*client
		for range 100 {
			clients = append(clients, connect(t, b, broker.Subscription{}, -1))
		}

		// Without a history, marks have no id. The first mark follows the retry
		// field and isn't counted.
		const beat = "\n\nevent: peald.mark\ndata:"
		perSecond := make([]int, 0, 60)
		seen := 0
		for range 60 {
			time.Sleep(time.Second)
			synctest.Wait()
			total := 0
			for _, c := range clients {
				total += strings.Count(c.text(), beat)
			}
			perSecond = append(perSecond, total-seen)
			seen = total
		}

		for i, c := range clients {
			if n := strings.Count(c.text(), beat); n < 3 || n > 5 {
				t.Errorf("client %d got %d heartbeats in a minute, want about 4", i, n)
			}
		}

		if most := slices.Max(perSecond[15:]); most > 30 {
			t.Errorf("heartbeats per second %v, want them spread over the period", perSecond)
		}
	})
}

func TestStreamIsClosedWhenItsTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		c := connect(t, b, broker.Subscription{User: "alice", Expires: time.Now().Add(40 * time.Second)}, -1)
		time.Sleep(39 * time.Second)
		synctest.Wait()
		if closed, _ := c.closed(); closed {
			t.Error("the stream was closed before its token expired")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if closed, why := c.closed(); !closed || why != broker.Expired {
			t.Errorf("after the expiry: closed %v, reason %v", closed, why)
		}
	})
}

// TestShortTokenAndLongHeartbeat checks that a stream is closed when its token
// expires, however long the heartbeat interval is.
func TestShortTokenAndLongHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Heartbeat = 10 * time.Minute
		b := broker.New(cfg)
		defer b.Close()
		for range 20 {
			connect(t, b, broker.Subscription{User: "alice", Expires: time.Now().Add(5 * time.Second)}, -1)
		}
		expired := connect(t, b, broker.Subscription{User: "bob", Expires: time.Now().Add(-time.Second)}, -1)
		time.Sleep(time.Second)
		synctest.Wait()
		if closed, why := expired.closed(); !closed || why != broker.Expired {
			t.Errorf("stream whose token had expired already: closed %v, reason %v", closed, why)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := b.Stats().Total.Connections; n != 0 {
			t.Errorf("%d streams are still open after their tokens expired", n)
		}
	})
}

func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		dead := connect(t, b, broker.Subscription{}, 0)
		slow := connect(t, b, broker.Subscription{}, 0)
		publish(t, b, toAll(strings.Repeat("x", 100)))
		for range 4 {
			time.Sleep(10 * time.Second)
			slow.drain(1)
			synctest.Wait()
		}
		if closed, why := dead.closed(); !closed || why != broker.WriteTimeout {
			t.Errorf("dead connection: closed %v, reason %v", closed, why)
		}
		if closed, why := slow.closed(); closed {
			t.Errorf("the connection that still accepts bytes was closed, reason %v", why)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		c := connect(t, b, broker.Subscription{User: "alice"}, -1)
		publish(t, b, toAll("last message"))
		b.Close()
		b.Close()
		if closed, why := c.closed(); !closed || why != broker.Shutdown {
			t.Errorf("closed %v, reason %v", closed, why)
		}
		if got := c.data(); !slices.Equal(got, []string{"last message"}) {
			t.Errorf("got %q before the end", got)
		}
		if _, err := b.Publish(t.Context(), toAll("x")); !errors.Is(err, broker.ErrClosed) {
			t.Errorf("publish to a closed broker: %v", err)
		}
		late := &client{room: -1, stream: b.NewStream(broker.Subscription{})}
		if err := late.stream.Start(late, broker.Opening{}); !errors.Is(err, broker.ErrClosed) {
			t.Errorf("join a closed broker: %v", err)
		}
		if n := b.Stats().Total.Connections; n != 0 {
			t.Errorf("%d streams are still open", n)
		}
	})
}
