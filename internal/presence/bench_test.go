package presence_test

import (
	"fmt"
	"testing"
)

// BenchmarkJoin shows how long a node that joins takes until it knows of
// 100,000 users on another.
func BenchmarkJoin(b *testing.B) {
	s := startNATS(b)
	a := join(b, s, "a", names{name: "a"})
	const users = 100_000
	for i := range users {
		a.connect(b, fmt.Sprint("user", i))
	}
	last := fmt.Sprint("user", users-1)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		m := join(b, s, fmt.Sprint("node", n), names{})
		eventually(b, func() bool { return m.Elsewhere(last) == 1 }, "the newcomer doesn't know all")
		m.stop()
		n++
	}
}

// BenchmarkElsewhere shows what a stream's limit costs with two other nodes of
// 10,000 users each.
func BenchmarkElsewhere(b *testing.B) {
	s := startNATS(b)
	a := join(b, s, "a", names{name: "a"})
	users := make([]string, 10_000)
	for i := range users {
		users[i] = fmt.Sprint("user", i)
	}
	for _, name := range []string{"b", "c"} {
		m := join(b, s, name, names{name: name})
		for _, user := range users {
			m.connect(b, user)
		}
	}
	eventually(b, func() bool { return a.Elsewhere(users[len(users)-1]) == 2 }, "the streams are not known")
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		a.Elsewhere(users[n%len(users)])
		n++
	}
}
