package clients_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/peald/peald/internal/testbed"
)

// client is a client library, a row of the table.
type client struct {
	name, label string
	command     []string
	version     []string // a command that prints the version
	loopOnly    bool     // has no plain use, only the recommended loop
}

// candidate is a client that may not be installed.
type candidate struct {
	client

	needs    []string // a command that succeeds if the client can run
	optional bool     // may be missing in CI
	older    bool     // runs only if whole returns true
}

// available returns the clients that can run on this machine, except browsers.
func available(t *testing.T) (clients []client) {
	t.Helper()

	for _, c := range slices.Concat(nodeClients(t), pythonClients(t), goClients(t), otherClients(t)) {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), c.name) {
			continue
		}

		if c.older && !whole() {
			continue
		}

		if len(c.needs) > 0 && exec.CommandContext(t.Context(), c.needs[0], c.needs[1:]...).Run() != nil {
			if os.Getenv("CI") == "true" && !c.optional {
				t.Errorf("%s can't run: %q fails", c.name, c.needs)
			}

			t.Logf("%s can't run here: skipping its row", c.name)

			continue
		}

		clients = append(clients, c.client)
	}

	return clients
}

func nodeClients(t *testing.T) (clients []candidate) {
	t.Helper()

	node := testbed.Program(t, "node")
	dir := nodeDrivers(t)

	add := func(name, label, module string, args ...string) *candidate {
		command := append([]string{node, filepath.Join(dir, args[0])}, args[1:]...)
		version := []string{node, "-p", "JSON.parse(fs.readFileSync('" + filepath.Join(dir, "node_modules", module, "package.json") + "')).version"}
		clients = append(clients, candidate{client: client{name: name, label: label, command: command, version: version}})

		return &clients[len(clients)-1]
	}

	for _, major := range []string{"2", "3", "4", "5"} {
		c := add("eventsource-"+major, "npm `eventsource` "+major, "eventsource-"+major, "eventsource.mjs", "eventsource-"+major)
		c.older = major != "5"
	}

	add("eventsource-client", "npm `eventsource-client`", "eventsource-client", "eventsource-client.mjs")
	add("eventsource-parser", "npm `eventsource-parser`", "eventsource-parser", "eventsource-parser.mjs").loopOnly = true
	add("fetch-event-source", "npm `@microsoft/fetch-event-source`", "@microsoft/fetch-event-source", "fetch-event-source.mjs")
	add("launchdarkly-eventsource", "npm `launchdarkly-eventsource`", "launchdarkly-eventsource", "launchdarkly.mjs")

	own := candidate{client: client{
		name: "node", label: "Node's own `EventSource`",
		command: []string{node, "--experimental-eventsource", "--no-warnings", filepath.Join(dir, "eventsource.mjs"), "node"},
		version: []string{node, "--version"},
	}}
	own.needs = []string{node, "--experimental-eventsource", "-e", "new EventSource('http://127.0.0.1:1').close()"}
	own.optional = true // older versions don't have it

	return append(clients, own)
}

func pythonClients(t *testing.T) (clients []candidate) {
	t.Helper()

	// The system's Python, which Debian's packages are installed for.
	python := testbed.Program(t, "/usr/bin/python3", "python3")

	add := func(name, module string) *candidate {
		clients = append(clients, candidate{
			client: client{
				name: name, label: "Python `" + name + "`", loopOnly: true,
				command: []string{python, absolute(t, "python", "driver.py"), "with_" + module},
				version: []string{python, "-c", "import " + module + "; print(" + module + ".__version__)"},
			},
			needs: []string{python, "-c", "import " + module},
		})

		return &clients[len(clients)-1]
	}

	for _, library := range []string{"requests", "httpx", "aiohttp"} {
		add(library, library)
	}

	// Debian has no packages for these libraries.
	parser := add("sseclient-py", "sseclient")
	parser.optional = true
	parser.version = []string{python, "-c", "from sseclient.version import version; print(version)"}

	for _, name := range []string{"httpx-sse", "aiohttp-sse-client"} {
		c := add(name, strings.ReplaceAll(name, "-", "_"))
		c.optional, c.loopOnly = true, false
	}

	return clients
}

func goClients(t *testing.T) (clients []candidate) {
	t.Helper()

	own := candidate{client: client{
		name: "peald", label: "Go `peald/peald/client`", loopOnly: true, version: []string{"echo", "this repository"},
		command: []string{build(t, "peald", ".", "./testdata/peald")},
	}}
	clients = append(clients, own)

	dir := filepath.Join("testdata", "go")
	program := build(t, "clients", dir, ".")

	for _, module := range []string{
		"github.com/tmaxmax/go-sse",
		"github.com/launchdarkly/eventsource",
		"github.com/donovanhide/eventsource",
		"github.com/r3labs/sse/v2",
	} {
		name := strings.Split(module, "/")[1]
		clients = append(clients, candidate{client: client{
			name: name, label: "Go `" + strings.TrimPrefix(module, "github.com/") + "`", command: []string{program, name},
			version: []string{"go", "-C", dir, "list", "-m", "-f", `{{if gt (len .Version) 20}}{{.Time.Format "2006-01-02"}}{{else}}{{.Version}}{{end}}`, module},
		}})
	}

	return clients
}

func otherClients(t *testing.T) []candidate {
	t.Helper()

	ruby := []string{"ruby", absolute(t, "ruby", "driver.rb")}

	return []candidate{
		{
			client: client{
				name: "java", label: "Java `java.net.http`", loopOnly: true,
				command: []string{"java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", absolute(t, "java", "Stream.java")},
				version: []string{"bash", "-c", "java --version | sed -n '1s/^[^0-9]*\\([0-9.]*\\).*/\\1/p'"},
			},
			needs: []string{"javac", "--version"},
		},
		{
			client: client{
				name: "net-http", label: "Ruby `Net::HTTP`", loopOnly: true, command: append(slices.Clone(ruby), "net_http"),
				version: []string{"ruby", "-e", "puts RUBY_VERSION"},
			},
			needs: []string{"ruby", "-rnet/http", "-e", ""},
		},
		{
			client: client{
				name: "em-http-request", label: "Ruby `em-http-request`", loopOnly: true, command: append(slices.Clone(ruby), "em_http_request"),
				version: []string{"ruby", "-e", "puts Gem::Specification.find_by_name('em-http-request').version"},
			},
			needs: []string{"ruby", "-rem-http-request", "-e", ""},
		},
		{
			client: client{
				name: "php", label: "PHP `curl`", loopOnly: true, command: []string{"php", absolute(t, "php", "driver.php")},
				version: []string{"php", "-r", "echo PHP_MAJOR_VERSION . '.' . PHP_MINOR_VERSION . '.' . PHP_RELEASE_VERSION;"},
			},
			needs: []string{"php", "-r", "exit(function_exists('curl_init') && function_exists('pcntl_fork') ? 0 : 1);"},
		},
		{
			client: client{
				name: "curl", label: "`curl` in a shell loop", loopOnly: true, command: []string{"bash", absolute(t, "curl", "stream.sh")},
				version: []string{"bash", "-c", "curl --version | cut -d ' ' -f 2 | head -1"},
			},
			needs: []string{"bash", "-c", "command -v curl md5sum"},
		},
	}
}
