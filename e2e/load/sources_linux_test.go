package load_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peald/peald/internal/sourcetest"
)

// testedSource is a source whose server and connections break, while the nodes of a
// cluster read it. Each node connects through a proxy of its own.
type testedSource struct {
	name    string
	server  sourceServer
	proxies []*sourcetest.Proxy
	// suspend, unless it is 0, is how long a node is suspended that reads. The group or the
	// server replaces the node meanwhile, and the node publishes what it still has later.
	suspend time.Duration
	// turn selects the disruptions of a short test: every shortTurns-th, from this one.
	turn int
}

// shortTurns is the number of sources, which take turns in short tests. Together, they run
// all disruptions.
const shortTurns = 4

// sourceServer is the server of a source.
type sourceServer interface {
	Kill()
	Start(tb testing.TB)
}

// soakRecords returns the number of records to write, which the environment variable may
// set, and the load to test with. Without the variable, the test is short.
func soakRecords(t *testing.T, variable string) (records int64, load clusterLoad, short bool) {
	t.Helper()

	text := os.Getenv(variable)
	if text == "" {
		return 200, clusterLoad{clients: 10}, true
	}

	records, err := strconv.ParseInt(text, 10, 64)
	if err != nil || records < 1 {
		t.Fatalf("%s: invalid number %q; want at least 1", variable, text)
	}

	return records, clusterLoad{clients: 100}, false
}

// startNodes starts three nodes that read the source. Settings returns the source's
// settings for a server at an address.
func (s *testedSource) startNodes(t *testing.T, server string, settings func(addr string) map[string]any) []*clusterNode {
	t.Helper()

	const count = 3

	return startNodesWith(t, count, func() []string {
		proxy := sourcetest.NewProxy(t, server)
		s.proxies = append(s.proxies, proxy)

		entry := settings(proxy.Addr)
		entry["name"] = s.name
		sources, err := json.Marshal([]any{entry})
		if err != nil {
			t.Fatal(err)
		}

		return []string{"--sources", string(sources), "--cluster.sync"}
	})
}

// disruption is something that breaks.
type disruption struct {
	name string
	run  func(t *testing.T)
}

func (s *testedSource) disruptions(w *clusterWorld) []disruption {
	disruptions := []disruption{
		{"the node that reads is killed", func(t *testing.T) { w.kill(t, s.readingNode(t, w.nodes)) }},
		{"connections to the server are cut", func(*testing.T) {
			for _, p := range s.proxies {
				p.Cut()
			}
			time.Sleep(500 * time.Millisecond)
			for _, p := range s.proxies {
				p.Heal()
			}
		}},
		{"the leader is killed", func(t *testing.T) { w.kill(t, w.node(t, true)) }},
		{"the server is killed", func(t *testing.T) {
			s.server.Kill()
			s.server.Start(t)
		}},
		{"the node that reads loses its connections", func(t *testing.T) {
			p := s.proxies[slices.Index(w.nodes, s.readingNode(t, w.nodes))]
			p.Cut()
			time.Sleep(3 * time.Second) // another node takes over
			p.Heal()
		}},
		{"the node that reads is restarted", func(t *testing.T) { s.readingNode(t, w.nodes).restart(t, syscall.SIGTERM) }},
		{"nothing arrives from the server", func(*testing.T) {
			for _, p := range s.proxies {
				p.Freeze()
			}
			time.Sleep(time.Second)
			for _, p := range s.proxies {
				p.Heal()
			}
		}},
	}
	if s.suspend > 0 {
		disruptions = append(disruptions, disruption{"a node that reads is suspended", func(t *testing.T) {
			suspendProcess(t, s.readingNode(t, w.nodes), s.suspend)
		}})
	}

	return disruptions
}

// disrupt runs all disruptions one after another, and again until done returns true. In a
// short test, it runs only those whose turn it is, once. It waits for recovered after
// each. Written returns the number of records that have been written.
func (s *testedSource) disrupt(t *testing.T, w *clusterWorld, short bool, written func() int64, done, recovered func() bool) {
	t.Helper()

	disruptions := s.disruptions(w)
	if short {
		all := disruptions
		disruptions = nil
		for i := s.turn; i < len(all); i += shortTurns {
			disruptions = append(disruptions, all[i])
		}
	}
	if !eventually(2*time.Minute, func() bool { return written() > 0 }) {
		t.Fatal("nothing is written")
	}
	for i := 0; i < len(disruptions) || !done(); i++ {
		d := disruptions[i%len(disruptions)]
		before := written()
		d.run(t)
		if !eventually(2*time.Minute, func() bool { return allReady(w.nodes) && recovered() }) {
			t.Fatalf("%s: the source isn't emptied any more", d.name)
		}
		t.Logf("%s: %d records written meanwhile", d.name, written()-before)
	}
}

func allReady(nodes []*clusterNode) bool {
	return !slices.ContainsFunc(nodes, func(n *clusterNode) bool { return !n.ready() })
}

// readingNode returns a node that reads the source.
func (s *testedSource) readingNode(t *testing.T, nodes []*clusterNode) (found *clusterNode) {
	t.Helper()

	if !eventually(2*time.Minute, func() bool {
		i := slices.IndexFunc(nodes, s.isReadBy)
		if i >= 0 {
			found = nodes[i]
		}

		return i >= 0
	}) {
		t.Fatal("no node reads the source")
	}

	return found
}

// isReadBy reports whether a node reads the source.
func (s *testedSource) isReadBy(n *clusterNode) bool {
	return n.hasMetric(fmt.Sprintf("peald_source_active{source=%q} 1", s.name))
}

// hasMetric reports whether the node's metrics have this line.
func (n *clusterNode) hasMetric(line string) bool {
	return strings.Contains(n.metrics(), "\n"+line+"\n")
}

// audiencesOf returns all audiences of a world. The data of a message begins with its
// audience.
func audiencesOf(w *clusterWorld) []string {
	audiences := []string{"everyone"}
	for _, c := range w.clients {
		audiences = append(audiences, c.user)
	}
	for i := range min(clusterTopics, len(w.clients)) {
		audiences = append(audiences, "topic"+strconv.Itoa(i))
	}

	return audiences
}
