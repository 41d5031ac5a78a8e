package clients_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

var (
	update = flag.Bool("update", false, "update docs/clients.md")

	//nolint:gochecknoglobals // A test flag.
	only = flag.String("clients", "", "run only the clients with these names, separated by commas, and don't compare the table")
)

// columns returns the table's columns, in order.
func columns() []column {
	return []column{
		{"before", "disconnected before its first event", []scenario{disconnectedBefore}},
		{"after", "disconnected after an event", []scenario{disconnectedAfter}},
		{"kill", "daemon killed and restarted", []scenario{killed}},
		{"drain", "daemon drained; the next has no history", []scenario{drained}},
		{"refusal", "temporary refusal", []scenario{refused}},
		{"status", "401, 204, 429", []scenario{unauthorized, banned, overLimit}},
		{"large", "event of 1 MiB", []scenario{large}},
		{"idle", "event on an idle stream", []scenario{idle}},
	}
}

type column struct {
	name, title string
	scenarios   []scenario
}

// held is a stream of a client, and the resulting word in the table.
type held struct {
	*stream

	column  column
	run     scenario
	word    string
	advised bool // uses the recommended code
}

// whole reports whether to run older versions of clients, and plain use. By default, only
// the recommended code runs, with the newest version of each client. SOAK, -update and
// -clients run everything.
func whole() bool { return *update || *only != "" || os.Getenv("SOAK") != "" }

// TestClients runs every installed client through every scenario, with the recommended
// code and, if [whole] returns true, with plain use. It compares the results with
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

	// First, because it may end the test while no goroutines are running.
	for _, b := range browsers {
		b.visit(t, streams[b.name])
	}

	var running sync.WaitGroup

	running.Go(func() { w.kill(t) })
	running.Go(func() { w.drain(t) })

	// Starting clients is expensive, but afterwards they mostly wait.
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

// open creates the streams of a client, each with a recorder.
func (w *world) open(t *testing.T, c client) (streams []*held) {
	t.Helper()

	for _, column := range columns() {
		for i, scenario := range column.scenarios {
			for _, advised := range []bool{false, true} {
				if !advised && (c.loopOnly || !whole()) {
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

// row returns a client's cells. It fails the test for each stream with recommended
// code that shows a bad result.
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
				t.Errorf("%s with the code in docs/clients.md, %s: %s", c.name, column.title, h.word)
			}
		}

		cells = append(cells, cell(words, advised))
	}

	return cells
}

// good reports whether a column's word is the desired behavior.
func good(c column, word string) bool {
	return slices.Contains(map[string][]string{
		"before": {resumes}, "after": {resumes}, "kill": {resumes}, "drain": {resets}, "refusal": {resumes},
		"status": {stops}, "large": {arrives}, "idle": {promptly},
	}[c.name], word)
}

// cell returns the text of a cell for the words that describe plain and recommended
// use.
func cell(words, advised []string) string {
	if len(words) == 0 || slices.Equal(words, advised) {
		return join(advised)
	}

	return "**" + join(words) + "**" + codeBelow + join(advised)
}

func join(words []string) string {
	if len(slices.Compact(slices.Clone(words))) == 1 {
		return words[0]
	}

	return strings.Join(words, ", ")
}
