package archtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/peald/peald/internal/archtest"
)

const (
	module = "github.com/peald/peald"
	viper  = "github.com/spf13/viper"
	grpc   = "google.golang.org/grpc"
	otel   = "go.opentelemetry.io/otel/sdk"
)

// rules returns the rules for all packages:
//
//	cmd → daemon → {control, ssehttp, internal/cluster} → internal/broker → internal/eventstream
func rules() []archtest.Rule {
	return []archtest.Rule{
		{
			Path: "cmd/peald",
			May:  []string{"daemon", "internal/buildinfo", "internal/configfile", "internal/flags", "internal/logqueue", "internal/nearest"},
			Why:  "the command only reads flags, environment and files; everything else belongs in daemon",
		},
		{
			Path:     "cmd/pealctl",
			May:      []string{"client", "gen/peal/v1", "internal/bench", "internal/buildinfo", "internal/flags", "internal/source/outbox"},
			TestsMay: []string{"daemon"}, // to configure the daemons that tests start
			Never:    []string{viper},
			Why:      "a client depends only on the daemon's network API",
		},
		{
			Path:     "client",
			May:      []string{"internal/eventstream"},
			TestsMay: []string{"daemon", "gen/peal/v1"}, // to publish events
			Never:    []string{viper, grpc},
			Why:      "programs import the client, so it depends only on the event stream format",
		},
		{
			Path:     "daemon",
			May:      []string{"control", "ssehttp", "internal/auth", "internal/broker", "internal/buildinfo", "internal/cluster", "internal/console", "internal/demo", "internal/hooks", "internal/jsclient", "internal/listen", "internal/presence", "internal/source", "internal/source/jetstream", "internal/source/kafka", "internal/source/outbox", "internal/source/postgres", "internal/source/redis"},
			TestsMay: []string{"gen/peal/v1"},
			Never:    []string{viper, otel},
			Why:      "daemon builds all parts from a plain struct, for commands and for tests",
		},
		{
			Path:  "control",
			May:   []string{"control/apierror", "control/rest", "gen/peal/v1", "internal/auth", "internal/broker"},
			Never: []string{viper, otel},
			Why:   "the control plane and the streams share only the broker, and don't know each other",
		},
		{
			Path:     "control/rest",
			May:      []string{"control/apierror", "control/cloudevents", "gen/peal/v1"},
			TestsMay: []string{"control", "internal/broker"}, // to serve real calls
			Never:    []string{viper, otel},
			Why:      "REST maps HTTP to gRPC calls and doesn't depend on how they are handled",
		},
		{
			Path:  "control/cloudevents",
			May:   []string{"control/apierror"},
			Never: []string{viper, otel},
			Why:   "reading CloudEvents is independent of what happens to them",
		},
		{
			Path:  "control/apierror",
			May:   []string{"internal/broker"},
			Never: []string{viper, otel},
			Why:   "errors are the same over gRPC and REST, so they depend on neither",
		},
		{
			Path:  "ssehttp",
			May:   []string{"internal/auth", "internal/broker", "internal/engine", "internal/eventstream"},
			Never: []string{viper, grpc},
			Why:   "the control plane and the streams share only the broker, and don't know each other",
		},
		{
			Path:  "internal/engine",
			May:   []string{"internal/broker", "internal/http2conn", "internal/tlsrecord"},
			Never: []string{viper, grpc},
			Why:   "the engine knows connections and requests, but not which of them get a stream",
		},
		{
			Path:  "internal/broker",
			May:   []string{"internal/eventstream"},
			Never: []string{viper, grpc, "net/http", "google.golang.org/protobuf"},
			Why:   "the broker is the core; the only protocol it knows is the event stream format",
		},
		{
			Path:     "internal/cluster",
			May:      []string{"gen/peal/cluster/v1", "internal/broker", "internal/node"},
			TestsMay: []string{"internal/eventstream"},
			Never:    []string{viper, grpc},
			Why:      "a cluster is several brokers with one event log, independent of how browsers and backends are served",
		},
		{
			Path:  "internal/node",
			Never: []string{viper, grpc, "net"},
			Why:   "the status of a node is shared by packages that don't import each other",
		},
		{
			Path:     "internal/presence",
			May:      []string{"gen/peal/presence/v1", "gen/peal/v1", "internal/broker", "internal/node"},
			TestsMay: []string{"control"},
			Never:    []string{viper},
			Why:      "the exchange of presence between nodes is independent of the event log and of the control plane",
		},
		{
			Path:  "internal/hooks",
			May:   []string{"internal/broker"},
			Never: []string{viper, grpc},
			Why:   "webhooks depend on who has streams, but not on how the nodes of a cluster know that",
		},
		{
			Path:  "internal/source",
			May:   []string{"internal/broker"},
			Never: []string{viper, grpc},
			Why:   "what sources have in common is independent of each kind, and of who else publishes",
		},
		{
			Path:  "internal/source/outbox",
			Never: []string{viper, grpc, "net"},
			Why:   "the outbox is a contract between writers, which need no daemon, and its reader",
		},
		{
			Path:     "internal/source/jetstream",
			May:      []string{"internal/source"},
			TestsMay: []string{"internal/broker"},
			Never:    []string{viper, grpc},
			Why:      "a kind of source knows its server, and nothing of the other kinds or of the daemon",
		},
		{
			Path:     "internal/source/kafka",
			May:      []string{"internal/source"},
			TestsMay: []string{"internal/broker"},
			Never:    []string{viper, grpc},
			Why:      "a kind of source knows its server, and nothing of the other kinds or of the daemon",
		},
		{
			Path:     "internal/source/postgres",
			May:      []string{"internal/source", "internal/source/outbox"},
			TestsMay: []string{"daemon", "internal/broker"},
			Never:    []string{viper, grpc},
			Why:      "a kind of source knows its server, and nothing of the other kinds or of the daemon",
		},
		{
			Path:     "internal/source/redis",
			May:      []string{"internal/source"},
			TestsMay: []string{"daemon", "internal/broker"},
			Never:    []string{viper, grpc},
			Why:      "a kind of source knows its server, and nothing of the other kinds or of the daemon",
		},
		{
			Path:  "internal/configfile",
			Never: []string{viper, grpc, "net"},
			Why:   "parsing a file is independent of the settings and of their other sources",
		},
		{
			Path:  "internal/flags",
			May:   []string{"internal/nearest"},
			Never: []string{viper, grpc},
			Why:   "checking a command line is independent of what the command does",
		},
		{
			Path:  "internal/nearest",
			Never: []string{viper, grpc},
			Why:   "a suggestion depends only on the names",
		},
		{
			Path:  "internal/eventstream",
			Never: []string{viper, grpc, "net"},
			Why:   "the encoding of frames is self-contained",
		},
		{
			Path:  "internal/auth",
			May:   []string{"internal/strictjson"},
			Never: []string{viper, grpc},
			Why:   "verifying a token is independent of its use",
		},
		{
			Path:  "internal/strictjson",
			Never: []string{viper, grpc, "net/http"},
			Why:   "parsing JSON is independent of its meaning",
		},
		{
			Path:  "internal/bench",
			May:   []string{"client", "internal/eventstream"},
			Never: []string{viper, grpc},
			Why:   "a load generator that shares code with the server also shares its bugs",
		},
		{
			Path:  "internal/jsclient",
			Never: []string{viper, grpc, "net"},
			Why:   "the client is only a file, which the listener for browsers serves",
		},
		{
			Path:     "internal/demo",
			May:      []string{"internal/broker", "internal/strictjson", "internal/webpage"},
			TestsMay: []string{"ssehttp"}, // to know the path of the client
			Never:    []string{viper, grpc},
			Why:      "the demo is an ordinary publisher that runs in the process of the daemon",
		},
		{
			Path:  "internal/console",
			May:   []string{"internal/webpage"},
			Never: []string{viper, grpc},
			Why:   "the console consists of files and uses only the REST API of the daemon",
		},
		{
			Path:  "internal/listen",
			Never: []string{viper, grpc},
			Why:   "sockets and their limits don't depend on what is served on them",
		},
		{
			Path:  "internal/tlsrecord",
			Never: []string{viper, grpc, "net/http"},
			Why:   "the record layer of TLS is independent of what its records carry",
		},
		{
			Path:  "internal/http2conn",
			Never: []string{viper, grpc},
			Why:   "a connection's protocol is independent of sockets and of what is served",
		},
		{
			Path:  "internal/webpage",
			Never: []string{viper, grpc},
			Why:   "serving pages is independent of their content",
		},
		{
			Path:  "gen/peal/v1",
			Never: []string{viper},
			Why:   "generated code must not depend on the code that uses it",
		},
		{
			Path:  "internal/buildinfo",
			Never: []string{viper, grpc},
			Why:   "the build information depends only on the go command",
		},
		{
			Path:  "internal/logqueue",
			Never: []string{viper, grpc},
			Why:   "a queue of lines is independent of their content",
		},
		{
			Path:  "gen/peal/cluster/v1",
			Never: []string{viper, grpc},
			Why:   "the entries of the event log are messages without a service",
		},
		{
			Path:  "gen/peal/presence/v1",
			May:   []string{"gen/peal/v1"},
			Never: []string{viper},
			Why:   "nodes exchange messages that the control plane defines",
		},
		{
			Path: "examples/go",
			May:  []string{"gen/peal/v1"},
			Why:  "an example must work outside this module",
		},
		{
			Path:     "examples/llm",
			May:      []string{"gen/peal/v1"},
			TestsMay: []string{"daemon"}, // to configure the daemons that tests start
			Why:      "an example must work outside this module",
		},
		{
			Path:     "examples/webhooks",
			TestsMay: []string{"daemon", "gen/peal/v1"},
			Why:      "an example must work outside this module",
		},
		{Path: "examples", TestOnly: true},
		{Path: "e2e", TestOnly: true},
		{Path: "e2e/load", TestOnly: true},
		{Path: "e2e/docs", TestOnly: true},
		{Path: "e2e/proxies", TestOnly: true},
		{Path: "e2e/clients", TestOnly: true},
		{Path: "internal/archtest", TestOnly: true},
		{Path: "internal/browsertest", TestOnly: true},
		{Path: "internal/hooktest", TestOnly: true},
		{Path: "internal/manpages", TestOnly: true},
		{Path: "internal/pealdtest", TestOnly: true},
		{Path: "internal/testbed", TestOnly: true, Never: []string{module + "/daemon"}, Why: "tests that start no daemon compile without it"},
		{Path: "internal/sourcetest", TestOnly: true},
	}
}

// TestImports checks the code for every operating system that peald supports, because
// their files differ.
func TestImports(t *testing.T) {
	readModule(t, "../..")

	for _, goos := range []string{"linux", "darwin", "windows"} {
		t.Run(goos, func(t *testing.T) {
			for _, violation := range archtest.Violations(module, rules(), list(t, goos)) {
				t.Error(violation)
			}
		})
	}
}

// TestViolations checks packages with additional imports.
func TestViolations(t *testing.T) {
	for name, test := range map[string]struct {
		added archtest.Package
		want  []string // parts of the only violation; nil if there is none
	}{
		"downwards": {
			added: archtest.Package{ImportPath: "control", Imports: []string{module + "/internal/broker"}},
		},
		"sideways": {
			added: archtest.Package{ImportPath: "control", Imports: []string{module + "/ssehttp"}},
			want:  []string{"control imports ssehttp: ", "may import control/apierror, control/rest, gen/peal/v1, internal/auth, internal/broker", "don't know each other"},
		},
		"sideways, the other way": {
			added: archtest.Package{ImportPath: "ssehttp", Imports: []string{module + "/control"}},
			want:  []string{"ssehttp imports control: ", "don't know each other"},
		},
		"sideways in a test": {
			added: archtest.Package{ImportPath: "ssehttp", XTestImports: []string{module + "/control"}},
			want:  []string{"ssehttp imports in its tests control: "},
		},
		"upwards": {
			added: archtest.Package{ImportPath: "internal/eventstream", Imports: []string{module + "/internal/broker"}},
			want:  []string{"internal/eventstream imports internal/broker: ", "may import nothing", "is self-contained"},
		},
		"skipping a layer": {
			added: archtest.Package{ImportPath: "cmd/peald", Imports: []string{module + "/internal/broker"}},
			want:  []string{"cmd/peald imports internal/broker: "},
		},
		"test helper in a test": {
			added: archtest.Package{ImportPath: "cmd/pealctl", XTestImports: []string{module + "/internal/pealdtest"}},
		},
		"test helper in the code": {
			added: archtest.Package{ImportPath: "cmd/pealctl", Imports: []string{module + "/internal/pealdtest"}},
			want:  []string{"cmd/pealctl imports internal/pealdtest: "},
		},
		"indirect dependency": {
			added: archtest.Package{ImportPath: "internal/broker", Deps: []string{"net", "net/http/httptrace"}},
			want:  []string{"internal/broker depends on net/http/httptrace", "the broker is the core"},
		},
		"name with the same prefix": {
			added: archtest.Package{ImportPath: "daemon", Deps: []string{viper + "extras"}},
		},
		"configuration outside the command": {
			added: archtest.Package{ImportPath: "daemon", Deps: []string{viper}},
			want:  []string{"daemon depends on " + viper},
		},
		"package without a rule": {
			added: archtest.Package{ImportPath: "internal/util"},
			want:  []string{"internal/util has no rule"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.added.ImportPath = module + "/" + test.added.ImportPath
			got := archtest.Violations(module, rules(), []archtest.Package{test.added})

			if len(test.want) == 0 {
				if len(got) > 0 {
					t.Errorf("violations of an allowed import: %q", got)
				}

				return
			}

			if len(got) != 1 {
				t.Fatalf("got %d violations %q, want one", len(got), got)
			}

			for _, want := range test.want {
				if !strings.Contains(got[0], want) {
					t.Errorf("%q lacks %q", got[0], want)
				}
			}
		})
	}
}

// readModule walks the directories of the module. The go command lists them in
// another process, so without this walk, go test would reuse a cached result after
// a change.
func readModule(t *testing.T, root string) {
	t.Helper()

	err := filepath.WalkDir(root, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && slices.Contains([]string{".git", "node_modules"}, entry.Name()) {
			return filepath.SkipDir
		}

		return err
	})
	if err != nil {
		t.Fatalf("walk the module: %v", err)
	}
}

// list returns the packages of the module for goos, as listed by the go command.
func list(t *testing.T, goos string) []archtest.Package {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), "go", "list", "-e",
		"-json=ImportPath,Imports,Deps,TestImports,XTestImports", module+"/...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	cmd.Stderr = t.Output()

	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}

	var packages []archtest.Package

	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p archtest.Package

		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}

		if err != nil {
			t.Fatalf("parse the output of go list: %v", err)
		}

		packages = append(packages, p)
	}

	if !slices.ContainsFunc(packages, func(p archtest.Package) bool { return p.ImportPath == module+"/daemon" }) {
		t.Fatalf("go list returned %d packages without daemon; want the whole module", len(packages))
	}

	return packages
}
