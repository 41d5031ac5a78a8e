package presence_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/peald/peald/internal/presence"
)

// picture holds what a follower knows.
type picture struct {
	f             *presence.Follower
	users, topics map[string]int
}

func follow(m *member) *picture {
	return &picture{m.Follow(), make(map[string]int), make(map[string]int)}
}

// update takes the changes.
func (p *picture) update(t *testing.T) {
	t.Helper()
	users, topics, complete := p.f.Take()
	if !complete {
		t.Error("changes are lost")
	}
	for _, u := range users {
		p.users[u.ID] = u.Connections
	}
	for _, n := range topics {
		p.topics[n.Name] = n.Subscribers
	}
}

// await waits for the numbers of streams of users and topics, which are in the form of
// fmt.Sprint.
func (p *picture) await(t *testing.T, what, want string) {
	t.Helper()
	got := ""
	eventually(t, func() bool {
		p.update(t)
		got = fmt.Sprint(p.users, p.topics)
		return got == want
	}, "%s: the follower doesn't get to know that the streams are %s", what, want)
}

func TestFollower(t *testing.T) {
	t.Parallel()
	a, b, c := three(t)
	p := follow(a)
	defer p.f.Close()
	b.connect(t, "before", "news")
	p.await(t, "a stream", "map[before:1] map[news:1]")
	if users, topics := p.f.All(); !slices.Equal(users, []string{"before"}) || !slices.Equal(topics, []string{"news"}) {
		t.Errorf("all users are %q, and all topics %q", users, topics)
	}
	own := a.connect(t, "alice", "news")
	c.connect(t, "alice", "prices.*")
	hangUp := b.connect(t, "bob")
	p.await(t, "streams on all nodes", "map[alice:2 before:1 bob:1] map[news:2 prices.*:1]")
	own()
	hangUp()
	p.await(t, "closed streams", "map[alice:1 before:1 bob:0] map[news:1 prices.*:1]")

	c.kill()
	p.await(t, "a lost node", "map[alice:0 before:1 bob:0] map[news:1 prices.*:0]")
	b.stop()
	p.await(t, "a node that left", "map[alice:0 before:0 bob:0] map[news:0 prices.*:0]")
	if users, topics := p.f.All(); len(users)+len(topics) > 0 {
		t.Errorf("in the end, all users are %q, and all topics %q", users, topics)
	}
}

// TestFollowerOfANewNode checks that the counts of a node that joins are followed, and
// that it is known whether they are missing.
func TestFollowerOfANewNode(t *testing.T) {
	t.Parallel()
	s := startNATS(t)
	a := join(t, s, "a", nameHandler{name: "a"})
	p := follow(a)
	defer p.f.Close()
	if !p.f.Settled() {
		t.Error("a single node doesn't know all counts")
	}
	b := join(t, s, "b", nameHandler{name: "b"})
	b.connect(t, "alice", "news")
	p.await(t, "a new node", "map[alice:1] map[news:1]")
	eventually(t, p.f.Settled, "the counts of the new node stay unknown")

	late := follow(b)
	defer late.f.Close()
	a.connect(t, "alice")
	late.await(t, "the other node", "map[alice:2] map[]")
}

func TestDuties(t *testing.T) {
	t.Parallel()
	a, b, c := three(t)
	running := []*member{a, b, c}
	performers := func(duty string) (names []string) {
		for _, m := range running {
			if m.Performs(duty) {
				names = append(names, m.name)
			}
		}
		return names
	}
	await := func(what, duty string, want ...string) {
		t.Helper()
		eventually(t, func() bool { return slices.Equal(performers(duty), want) }, "%s: %s isn't performed by %q", what, duty, want)
	}

	if names := performers("sweep"); len(names) > 0 {
		t.Errorf("%q perform a duty that nobody is ready for", names)
	}
	b.SetDuties([]string{"sweep"})
	c.SetDuties([]string{"sweep", "cook"})
	await("two are ready", "sweep", "b")
	await("one is ready", "cook", "c")
	a.SetDuties([]string{"sweep"})
	await("all are ready", "sweep", "a")
	a.SetDraining(true)
	await("the first is draining", "sweep", "b")
	b.stop()
	running = []*member{a, c}
	await("the second has left", "sweep", "c")
	c.SetDuties([]string{"cook"})
	await("nobody is ready", "sweep")
	await("one is ready", "cook", "c")
}
