package broker_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

func TestChangesListEachNameOnceWithItsCurrentCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		open := func(user string, topics ...string) *broker.Stream {
			st := b.NewStream(broker.Subscription{User: user, Topics: topics})
			if err := st.Start(sponge{new(atomic.Int64)}, broker.Opening{}); err != nil {
				t.Fatal(err)
			}
			return st
		}

		before := open("before")
		changes := b.Changes()
		take := func(wantUsers, wantTopics, wantBans string) {
			t.Helper()
			synctest.Wait()
			users, topics, bans, complete := changes.Take()
			var u, n, r []string
			for _, user := range users {
				u = append(u, fmt.Sprint(user.ID, user.Connections))
			}
			for _, topic := range topics {
				n = append(n, fmt.Sprint(topic.Name, topic.Subscribers))
			}
			for _, ban := range bans {
				r = append(r, fmt.Sprint(ban.User, ban.Until.Sub(ban.Set)))
			}
			if fmt.Sprint(u) != wantUsers || fmt.Sprint(n) != wantTopics || fmt.Sprint(r) != wantBans || !complete {
				t.Errorf("users %v, topics %v, bans %v, want %s, %s, %s", u, n, r, wantUsers, wantTopics, wantBans)
			}
		}

		take("[]", "[]", "[]")
		open("bob", "orders", "stock.*")
		alice := open("alice", "orders")
		open("alice")
		open("", "stock.*")
		before.HangUp()
		take("[alice2 before0 bob1]", "[orders2 stock.*2]", "[]")
		take("[]", "[]", "[]")
		alice.HangUp()
		if _, err := b.Disconnect("bob", time.Hour); err != nil {
			t.Fatal(err)
		}

		take("[alice1 bob0]", "[orders0 stock.*1]", "[bob1h0m0s]")
		if got := b.Tally(); got != (broker.Tally{Streams: 2, Anonymous: 1, Users: 1}) {
			t.Errorf("tally %+v", got)
		}
	})
}

func TestStoppedChangesCollectNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		const users = 1000 // on several pages
		first := b.Changes()
		for i := range users {
			st := b.NewStream(broker.Subscription{User: fmt.Sprint("user", i), Topics: []string{fmt.Sprint("topic", i), "all"}})
			if err := st.Start(sponge{new(atomic.Int64)}, broker.Opening{}); err != nil {
				t.Fatal(err)
			}
		}
		first.Stop()
		if got, _, _, complete := first.Take(); len(got) != 0 || !complete {
			t.Errorf("%d changes after Stop, complete: %t", len(got), complete)
		}

		second := b.Changes()
		first.Stop() // must not stop the second
		if _, err := b.Disconnect("user7", 0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, _, _, _ := second.Take(); len(got) != 1 || got[0].ID != "user7" {
			t.Errorf("users %v", got)
		}

		names, topics := b.Names()
		if len(names) != users-1 || len(topics) != users || !slices.IsSorted(names) || !slices.IsSorted(topics) || slices.Contains(names, "user7") {
			t.Errorf("%d users and %d topics", len(names), len(topics))
		}
		counted := b.CountTopics([]string{"all", "topic7", "topic8"})
		if want := []broker.Topic{{Name: "all", Subscribers: users - 1}, {Name: "topic7"}, {Name: "topic8", Subscribers: 1}}; !slices.Equal(counted, want) {
			t.Errorf("topics %v, want %v", counted, want)
		}
	})
}

func TestTheLaterBanApplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		now := time.Now()
		adopt := func(set, until time.Duration) {
			t.Helper()
			if err := b.AdoptBan(broker.Ban{User: "mallory", Set: now.Add(set), Until: now.Add(until)}); err != nil {
				t.Fatal(err)
			}
		}

		adopt(-time.Minute, time.Hour)
		adopt(-2*time.Minute, 2*time.Hour) // received later but set earlier
		if bans := b.Bans("", 10); len(bans) != 1 || !bans[0].Until.Equal(now.Add(time.Hour)) {
			t.Errorf("bans %v, want the one that was set last", bans)
		}

		adopt(0, time.Minute)
		time.Sleep(59 * time.Second)
		if !b.Banned("mallory") {
			t.Error("the ban ended too early")
		}

		time.Sleep(2 * time.Second)
		synctest.Wait()
		if b.Banned("mallory") || len(b.Bans("", 10)) > 0 {
			t.Error("the ban has not ended")
		}

		for _, user := range []string{"a", "c", "b"} {
			if _, err := b.Disconnect(user, time.Hour); err != nil {
				t.Fatal(err)
			}
		}

		var paged []string
		for after := ""; ; {
			page := b.Bans(after, 2)
			if len(page) == 0 {
				break
			}
			for _, ban := range page {
				paged = append(paged, ban.User)
			}
			after = page[len(page)-1].User
		}

		if !slices.Equal(paged, []string{"a", "b", "c"}) {
			t.Errorf("bans are paged in the order %q", paged)
		}

		if err := b.AdoptBan(broker.Ban{User: "\n"}); err == nil {
			t.Error("a ban on an invalid user is accepted")
		}
	})
}

// TestDisconnectCountsEachStreamOnce disconnects a user whose ban arrives before or
// after the call that sets it.
func TestDisconnectCountsEachStreamOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		disconnect := func(want int) {
			t.Helper()
			if n, err := b.Disconnect("alice", time.Hour); err != nil || n != want {
				t.Errorf("Disconnect returned %d, %v; want %d", n, err, want)
			}
		}
		adopt := func() {
			t.Helper()
			if err := b.AdoptBan(broker.Ban{User: "alice", Set: time.Now(), Until: time.Now().Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}
		open := func() {
			connect(t, b, broker.Subscription{User: "alice"}, -1)
			connect(t, b, broker.Subscription{User: "alice"}, -1)
		}

		open()
		disconnect(2)
		disconnect(0) // the streams may still be open
		synctest.Wait()

		for _, wait := range []func(){func() {}, synctest.Wait} {
			time.Sleep(time.Minute)
			open()
			adopt()
			wait()
			disconnect(2)
			disconnect(0)
			synctest.Wait()
		}

		time.Sleep(time.Minute)
		open()
		adopt()
		time.Sleep(time.Minute)
		disconnect(0) // a later call has nothing to do with the ban
	})
}

// BenchmarkConnect shows the overhead of collecting changes when streams are
// opened and closed.
func BenchmarkConnect(b *testing.B) {
	for _, collected := range []bool{false, true} {
		b.Run(map[bool]string{false: "alone", true: "changes collected"}[collected], func(b *testing.B) {
			bk := broker.New(config())
			defer bk.Close()
			take := func() {}
			if collected {
				changes := bk.Changes()
				take = func() { changes.Take() }
			}
			var pieces atomic.Int64
			users := make([]string, 1000)
			for i := range users {
				users[i] = fmt.Sprint("user", i)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				st := bk.NewStream(broker.Subscription{User: users[n%len(users)], Topics: []string{"orders"}})
				if err := st.Start(sponge{&pieces}, broker.Opening{}); err != nil {
					b.Fatal(err)
				}
				st.HangUp()
				if n++; n%250 == 0 { // a quarter of a second at 1,000 connections per second
					take()
				}
			}
		})
	}
}
