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

// rooms is the plan of the house:
//
//	cmd → daemon → {control, ssehttp, internal/cluster} → internal/broker → internal/eventstream
func rooms() []archtest.Room {
	return []archtest.Room{
		{
			Path: "cmd/peald",
			May:  []string{"daemon", "internal/buildinfo", "internal/configfile", "internal/flags", "internal/logqueue", "internal/nearest"},
			Why:  "the command reads flags, environment and files, and leaves the rest to daemon",
		},
		{
			Path:     "cmd/pealctl",
			May:      []string{"gen/peal/v1", "internal/bench", "internal/buildinfo", "internal/eventstream", "internal/flags"},
			TestsMay: []string{"daemon"}, // to configure the daemon that they start
			Never:    []string{viper},
			Why:      "a client knows the daemon by its replies over the network",
		},
		{
			Path:     "daemon",
			May:      []string{"control", "ssehttp", "internal/auth", "internal/broker", "internal/buildinfo", "internal/cluster", "internal/console", "internal/demo", "internal/presence"},
			TestsMay: []string{"gen/peal/v1"},
			Never:    []string{viper, otel},
			Why:      "daemon builds the parts from a plain struct, and is what commands and tests start",
		},
		{
			Path:  "control",
			May:   []string{"control/apierror", "control/rest", "gen/peal/v1", "internal/auth", "internal/broker"},
			Never: []string{viper, otel},
			Why:   "the control plane and the streams meet in the broker alone: neither knows the other",
		},
		{
			Path:     "control/rest",
			May:      []string{"control/apierror", "gen/peal/v1"},
			TestsMay: []string{"control", "internal/broker"}, // to serve real calls
			Never:    []string{viper, otel},
			Why:      "REST maps HTTP to gRPC calls and doesn't depend on how they are handled",
		},
		{
			Path:  "control/apierror",
			May:   []string{"internal/broker"},
			Never: []string{viper, otel},
			Why:   "errors are the same over gRPC and REST, so they depend on neither",
		},
		{
			Path:  "ssehttp",
			May:   []string{"internal/auth", "internal/broker", "internal/eventstream"},
			Never: []string{viper, grpc},
			Why:   "the control plane and the streams meet in the broker alone: neither knows the other",
		},
		{
			Path:  "internal/broker",
			May:   []string{"internal/eventstream"},
			Never: []string{viper, grpc, "net/http", "google.golang.org/protobuf"},
			Why:   "the broker is the core: it knows no protocol but the frames of an event stream",
		},
		{
			Path:     "internal/cluster",
			May:      []string{"gen/peal/cluster/v1", "internal/broker", "internal/node"},
			TestsMay: []string{"internal/eventstream"},
			Never:    []string{viper, grpc},
			Why:      "a cluster is many brokers over one log: what serves browsers and backends doesn't know of it",
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
			Why:      "what nodes know of each other's streams depends neither on their log nor on what is asked",
		},
		{
			Path:  "internal/configfile",
			Never: []string{viper, grpc, "net"},
			Why:   "what a file says depends neither on the settings there are nor on where else they are given",
		},
		{
			Path:  "internal/flags",
			May:   []string{"internal/nearest"},
			Never: []string{viper, grpc},
			Why:   "a mistake on a command line is one whatever the command does",
		},
		{
			Path:  "internal/nearest",
			Never: []string{viper, grpc},
			Why:   "what was meant by a misspelled name depends on the names alone",
		},
		{
			Path:  "internal/eventstream",
			Never: []string{viper, grpc, "net"},
			Why:   "the encoding of frames stands alone",
		},
		{
			Path:  "internal/auth",
			May:   []string{"internal/strictjson"},
			Never: []string{viper, grpc},
			Why:   "what a token says depends on nobody who asks",
		},
		{
			Path:  "internal/strictjson",
			Never: []string{viper, grpc, "net/http"},
			Why:   "how JSON is read doesn't depend on what it means",
		},
		{
			Path:  "internal/bench",
			May:   []string{"internal/eventstream"},
			Never: []string{viper, grpc},
			Why:   "a load generator that shared code with the server would share its mistakes",
		},
		{
			Path:  "internal/demo",
			May:   []string{"internal/broker", "internal/strictjson", "internal/webpage"},
			Never: []string{viper, grpc},
			Why:   "the demo is a publisher like any other, in process",
		},
		{
			Path:  "internal/console",
			May:   []string{"internal/webpage"},
			Never: []string{viper, grpc},
			Why:   "the console is files, and knows the daemon by its REST calls alone",
		},
		{
			Path:  "internal/webpage",
			Never: []string{viper, grpc},
			Why:   "how pages are served depends on none of them",
		},
		{
			Path:  "gen/peal/v1",
			Never: []string{viper},
			Why:   "stubs are for everybody, so they stand on nobody",
		},
		{
			Path:  "internal/buildinfo",
			Never: []string{viper, grpc},
			Why:   "what the go command recorded is nobody's but the program's",
		},
		{
			Path:  "internal/logqueue",
			Never: []string{viper, grpc},
			Why:   "a queue of lines depends neither on who logs nor on what is logged",
		},
		{
			Path:  "gen/peal/cluster/v1",
			Never: []string{viper, grpc},
			Why:   "what nodes write into their log is messages, and no service",
		},
		{
			Path:  "gen/peal/presence/v1",
			May:   []string{"gen/peal/v1"},
			Never: []string{viper},
			Why:   "what nodes tell each other is in the control plane's words where it has them",
		},
		{
			Path: "examples/go",
			May:  []string{"gen/peal/v1"},
			Why:  "an example shows what a backend outside this module can do",
		},
		{Path: "examples", TestOnly: true},
		{Path: "e2e", TestOnly: true},
		{Path: "e2e/load", TestOnly: true},
		{Path: "e2e/proxies", TestOnly: true},
		{Path: "e2e/clients", TestOnly: true},
		{Path: "internal/archtest", TestOnly: true},
		{Path: "internal/browsertest", TestOnly: true},
		{Path: "internal/manpages", TestOnly: true},
		{Path: "internal/pealdtest", TestOnly: true},
	}
}

// TestImportsFollowThePlan looks at the code of every system that peald
// runs on, since files differ.
func TestImportsFollowThePlan(t *testing.T) {
	read(t, "../..")

	for _, goos := range []string{"linux", "darwin", "windows"} {
		t.Run(goos, func(t *testing.T) {
			for _, violation := range archtest.Violations(module, rooms(), list(t, goos)) {
				t.Error(violation)
			}
		})
	}
}

// TestAnAddedArrowIsFound adds made-up imports to packages that are in
// order.
func TestAnAddedArrowIsFound(t *testing.T) {
	for name, test := range map[string]struct {
		added archtest.Package
		want  []string // in the one violation; none where the import is in order
	}{
		"downwards": {
			added: archtest.Package{ImportPath: "control", Imports: []string{module + "/internal/broker"}},
		},
		"sideways": {
			added: archtest.Package{ImportPath: "control", Imports: []string{module + "/ssehttp"}},
			want:  []string{"control imports ssehttp: ", "may import control/apierror, control/rest, gen/peal/v1, internal/auth, internal/broker", "neither knows the other"},
		},
		"sideways, the other way": {
			added: archtest.Package{ImportPath: "ssehttp", Imports: []string{module + "/control"}},
			want:  []string{"ssehttp imports control: ", "neither knows the other"},
		},
		"sideways in a test": {
			added: archtest.Package{ImportPath: "ssehttp", XTestImports: []string{module + "/control"}},
			want:  []string{"ssehttp imports in its tests control: "},
		},
		"upwards": {
			added: archtest.Package{ImportPath: "internal/eventstream", Imports: []string{module + "/internal/broker"}},
			want:  []string{"internal/eventstream imports internal/broker: ", "may import nothing", "stands alone"},
		},
		"past a floor": {
			added: archtest.Package{ImportPath: "cmd/peald", Imports: []string{module + "/internal/broker"}},
			want:  []string{"cmd/peald imports internal/broker: "},
		},
		"a test's helper in a test": {
			added: archtest.Package{ImportPath: "cmd/pealctl", XTestImports: []string{module + "/internal/pealdtest"}},
		},
		"a test's helper in the code": {
			added: archtest.Package{ImportPath: "cmd/pealctl", Imports: []string{module + "/internal/pealdtest"}},
			want:  []string{"cmd/pealctl imports internal/pealdtest: "},
		},
		"a library through another": {
			added: archtest.Package{ImportPath: "internal/broker", Deps: []string{"net", "net/http/httptrace"}},
			want:  []string{"internal/broker depends on net/http/httptrace", "the broker is the core"},
		},
		"a name that only begins alike": {
			added: archtest.Package{ImportPath: "daemon", Deps: []string{viper + "extras"}},
		},
		"configuration outside the command": {
			added: archtest.Package{ImportPath: "daemon", Deps: []string{viper}},
			want:  []string{"daemon depends on " + viper},
		},
		"a package without a place": {
			added: archtest.Package{ImportPath: "internal/util"},
			want:  []string{"internal/util has no place"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.added.ImportPath = module + "/" + test.added.ImportPath
			got := archtest.Violations(module, rooms(), []archtest.Package{test.added})

			if len(test.want) == 0 {
				if len(got) > 0 {
					t.Errorf("an import that is in order is refused: %q", got)
				}

				return
			}

			if len(got) != 1 {
				t.Fatalf("got %d violations %q, want one", len(got), got)
			}

			for _, want := range test.want {
				if !strings.Contains(got[0], want) {
					t.Errorf("%q doesn't say %q", got[0], want)
				}
			}
		})
	}
}

// read walks the folders of the module. The go command, which does the listing,
// is another process: without this, go test would take an old result from its
// cache after an import was added.
func read(t *testing.T, root string) {
	t.Helper()

	err := filepath.WalkDir(root, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && slices.Contains([]string{".git", "node_modules"}, entry.Name()) {
			return filepath.SkipDir
		}

		return err
	})
	if err != nil {
		t.Fatalf("walking the module: %v", err)
	}
}

// list is the packages of the module as the go command sees them for goos.
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
			t.Fatalf("what go list prints: %v", err)
		}

		packages = append(packages, p)
	}

	if !slices.ContainsFunc(packages, func(p archtest.Package) bool { return p.ImportPath == module+"/daemon" }) {
		t.Fatalf("go list knows no daemon among %d packages: is this the module?", len(packages))
	}

	return packages
}
