package presence_test

import (
	"fmt"
	"testing"
)

// BenchmarkJoin measures how long a node that joins takes to learn the counts of
// 100,000 users of another node.
func BenchmarkJoin(b *testing.B) {
	s := startNATS(b)
	a := join(b, s, "a", nameHandler{name: "a"})
	const users = 100_000
	for i := range users {
		a.connect(b, fmt.Sprint("user", i))
	}
	last := fmt.Sprint("user", users-1)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		m := join(b, s, fmt.Sprint("node", n), nameHandler{})
		eventually(b, func() bool { return m.Elsewhere(last) == 1 }, "the new node lacks counts")
		m.stop()
		n++
	}
}

// BenchmarkElsewhere measures the cost of a user's stream limit with two other
// nodes that have 10,000 users each.
func BenchmarkElsewhere(b *testing.B) {
	s := startNATS(b)
	a := join(b, s, "a", nameHandler{name: "a"})
	users := make([]string, 10_000)
	for i := range users {
		users[i] = fmt.Sprint("user", i)
	}
	for _, name := range []string{"b", "c"} {
		m := join(b, s, name, nameHandler{name: name})
		for _, user := range users {
			m.connect(b, user)
		}
	}
	eventually(b, func() bool { return a.Elsewhere(users[len(users)-1]) == 2 }, "the streams are not counted")
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		a.Elsewhere(users[n%len(users)])
		n++
	}
}
