package clients_test

import (
	"flag"
	"strings"
	"testing"
	"time"
)

//nolint:gochecknoglobals // A test flag.
var measure = flag.Bool("measure", false, "measure how long clients take to parse an event of 1 MiB, for docs/clients.md")

// TestLargeEventLines measures, for each client, how long a 1 MiB event takes to
// get from the daemon to the client's listener, in one line and in 65,536 lines.
func TestLargeEventLines(t *testing.T) {
	if !*measure {
		t.Skip("measures only with -measure")
	}

	w := newWorld(t)

	for _, c := range available(t) {
		for _, advised := range []bool{false, true} {
			if !advised && c.loopOnly {
				continue
			}

			s := newStream("measured", c.name)
			if advised {
				s = newStream("measured+", c.name+"-advised")
			}

			record(t, s, w.daemon.SSE)

			stop := run(t, c.command, []*stream{s})

			if !s.opens() || !w.delivered(t, w.control, s, first) {
				t.Errorf("%s: the stream doesn't open or doesn't receive events", c.name)

				continue
			}

			times := map[string]time.Duration{}

			for name, data := range map[string]string{
				"one line":     strings.Repeat("0123456789abcdef", 1<<16),
				"65,536 lines": strings.TrimSuffix(strings.Repeat("0123456789abcde\n", 1<<16), "\n"),
			} {
				began := time.Now()

				send(t, w.control, s, data)

				if s.await(patience, func() bool { return s.has(data) || len(s.requests) > 2 }) && len(s.requests) == 1 {
					times[name] = time.Since(began).Round(10 * time.Millisecond)
				}
			}

			t.Logf("%s%s: %v", c.name, strings.TrimPrefix(s.name, "measured"), times)
			stop()
		}
	}
}
