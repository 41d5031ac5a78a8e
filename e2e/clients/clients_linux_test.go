package clients_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

var (
	update = flag.Bool("update", false, "write docs/clients.md")

	//nolint:gochecknoglobals // Flags of tests are.
	only = flag.String("clients", "", "run the clients of these names alone, separated by commas, and don't compare the table")
)

// columns are the table's, in order.
func columns() []column {
	return []column{
		{"before", "disconnected before its first event", []scenario{disconnectedBefore}},
		{"after", "disconnected after an event", []scenario{disconnectedAfter}},
		{"kill", "daemon killed and restarted", []scenario{killed}},
		{"drain", "daemon drained; the next has no history", []scenario{drained}},
		{"refusal", "temporary refusal", []scenario{refusedForNow}},
		{"status", "401, 204, 429", []scenario{unauthorized, toldToStayAway, overTheLimit}},
		{"large", "event of 1 MiB", []scenario{large}},
		{"idle", "event on an idle stream", []scenario{idle}},
	}
}

type column struct {
	name, title string
	scenarios   []scenario
}

// held is a stream of a client, and what it shows.
type held struct {
	*stream

	column  column
	run     scenario
	word    string
	advised bool // by the recommended use
}

// TestClients runs every client that is installed through every scenario, by its
// plain use and by the recommended one, and compares the words with
// docs/clients.md.
func TestClients(t *testing.T) {
	t.Parallel()

	clients, browsers := available(t), browsers(t)
	w := newWorld(t)

	streams := map[string][]*held{}

	for _, c := range clients {
		streams[c.name] = w.open(t, c)
	}

	for _, b := range browsers {
		streams[b.name] = w.open(t, b.client)
	}

	// Before anything runs beside the test, which this may end.
	for _, b := range browsers {
		b.visit(t, streams[b.name])
	}

	var running sync.WaitGroup

	running.Go(func() { w.kill(t) })
	running.Go(func() { w.drain(t) })

	// Starting is expensive; then they mostly wait.
	starting := make(chan struct{}, 4)

	for _, c := range clients {
		running.Go(func() {
			starting <- struct{}{}

			run(t, c.command, plain(streams[c.name]))

			for _, h := range streams[c.name] {
				h.await(patience, func() bool { return len(h.requests) > 0 || h.ended != "" })
			}
			<-starting

			for _, h := range streams[c.name] {
				running.Go(func() { h.word = h.run(t, w, h.stream) })
			}
		})
	}

	var ran []client

	for _, b := range browsers {
		for _, h := range streams[b.name] {
			running.Go(func() { h.word = h.run(t, w, h.stream) })
		}

		ran = append(ran, b.client)
	}

	running.Wait()

	ran = append(ran, clients...)
	rows := map[string][]string{}

	for _, c := range ran {
		rows[c.name] = c.row(t, streams[c.name])
		t.Logf("%s: %s", c.name, strings.Join(rows[c.name], " | "))
	}

	if *only == "" {
		compare(t, ran, rows)
	}
}

// open prepares the streams of a client.
func (w *world) open(t *testing.T, c client) (streams []*held) {
	t.Helper()

	for _, column := range columns() {
		for i, scenario := range column.scenarios {
			for _, advised := range []bool{false, true} {
				if !advised && c.loopOnly {
					continue
				}

				name := fmt.Sprint(column.name, i)
				user := c.name + "-" + name

				if advised {
					name += "+"
					user += "-advised"
				}

				h := &held{stream: newStream(name, user), column: column, run: scenario, advised: advised}
				record(t, h.stream, w.upstream(column.name))

				switch column.name {
				case "kill":
					w.killing.missing.Add(1)
				case "drain":
					w.draining.missing.Add(1)
				}

				streams = append(streams, h)
			}
		}
	}

	return streams
}

func plain(streams []*held) (all []*stream) {
	for _, h := range streams {
		all = append(all, h.stream)
	}

	return all
}

// row returns a client's cells, and fails the test for each stream of the
// recommended use whose word is none of the good ones.
func (c client) row(t *testing.T, streams []*held) (cells []string) {
	t.Helper()

	for _, column := range columns() {
		var words, advised []string

		for _, h := range streams {
			if h.column.name != column.name {
				continue
			}

			if !good(column, h.word) {
				h.describe(t)
			}

			if !h.advised {
				words = append(words, h.word)

				continue
			}

			advised = append(advised, h.word)

			if !good(column, h.word) {
				t.Errorf("%s, as docs/clients.md recommends it, %s: %s", c.name, column.title, h.word)
			}
		}

		cells = append(cells, cell(words, advised))
	}

	return cells
}

// good reports whether a word of a column is what a client should do.
func good(c column, word string) bool {
	return slices.Contains(map[string][]string{
		"before": {resumes}, "after": {resumes}, "kill": {resumes}, "drain": {resets}, "refusal": {resumes},
		"status": {stops}, "large": {arrives}, "idle": {promptly},
	}[c.name], word)
}

// cell puts the words of the plain use and of the recommended one into one cell.
func cell(words, advised []string) string {
	if len(words) == 0 || slices.Equal(words, advised) {
		return join(advised)
	}

	return "**" + join(words) + "**; code below: " + join(advised)
}

func join(words []string) string {
	if len(slices.Compact(slices.Clone(words))) == 1 {
		return words[0]
	}

	return strings.Join(words, ", ")
}
