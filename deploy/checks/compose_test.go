package checks_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const (
	controlToken  = "PEALD_CONTROL_TOKENS=shop:0123456789abcdef0123:publish"
	clusterSecret = "PEALD_CLUSTER_SECRET=0123456789abcdef"
)

func TestCompose(t *testing.T) {
	found := loadCompose(t, "../compose.yaml")
	checkDaemon(t, found.Services["peald"], controlToken)
	checkUpstreams(t, found, "peald:8080")
}

func TestClusterCompose(t *testing.T) {
	found := loadCompose(t, "../compose.cluster.yaml")
	ports, volumes, upstreams := map[string]string{}, map[string]string{}, []string{}

	for _, name := range []string{"peald-1", "peald-2", "peald-3"} {
		node := found.Services[name]
		upstreams = append(upstreams, name+":8080")
		variables := checkDaemon(t, node, controlToken, clusterSecret)

		// Anyone who can reach the peers port can read and publish everything.
		if out, err := effectiveConfig(t, built(t), append(variables, controlToken), ""); err == nil || !strings.Contains(out, "cluster.secret") {
			t.Errorf("%s without a cluster secret: %v\n%s", name, err, out)
		}

		for _, port := range node.Ports {
			if other, taken := ports[port.Published]; taken {
				t.Errorf("%s publishes port %s, which %s already publishes", name, port.Published, other)
			}

			ports[port.Published] = name
		}

		volume := node.Volumes[0]
		if other, taken := volumes[volume.Source]; taken || volume.Type != "volume" || volume.Target != stateFolder {
			t.Errorf("%s has volume %+v, want one at %s that isn't shared; %q uses the same source", name, volume, stateFolder, other)
		}

		volumes[volume.Source] = name

		if dir := node.Environment["PEALD_CLUSTER_DIR"]; *dir != volume.Target {
			t.Errorf("%s: cluster.dir is %s, and the volume is mounted at %s", name, *dir, volume.Target)
		}

		peers, _, _ := strings.Cut(*node.Environment["PEALD_CLUSTER_PEERS"], ":")
		if !slices.Contains(node.Networks[peers].Aliases, peers) {
			t.Errorf("the network alias %s doesn't include %s", peers, name)
		}
	}

	checkUpstreams(t, found, strings.Join(upstreams, " "))
}

// loadCompose loads a compose file with the example's secrets file.
func loadCompose(t *testing.T, file string) *types.Project {
	t.Helper()

	env := write(t, "peald.env", read(t, "../peald.env.example"))
	content := strings.ReplaceAll(read(t, file), "env_file: peald.env", "env_file: "+env)

	project := func(env ...string) (*types.Project, error) {
		options, err := cli.NewProjectOptions([]string{write(t, "compose.yaml", content)}, cli.WithEnv(env))
		if err != nil {
			t.Fatal(err)
		}

		return options.LoadProject(t.Context())
	}

	if _, err := project(); err == nil || !strings.Contains(err.Error(), "EVENTS_HOST") {
		t.Errorf("without EVENTS_HOST: %v", err)
	}

	found, err := project("EVENTS_HOST=events.example.com")
	if err != nil {
		t.Fatal(err)
	}

	return found
}

// checkDaemon checks that a daemon needs no more than the given secrets to
// start, publishes ports only on the loopback interface, and has time to drain.
// The first secret must be the control token. It returns the daemon's
// environment variables without the secrets.
func checkDaemon(t *testing.T, daemon types.ServiceConfig, secrets ...string) []string {
	t.Helper()

	for _, port := range daemon.Ports {
		if port.HostIP != "127.0.0.1" {
			t.Errorf("the control plane's port %d is published on %q, want 127.0.0.1", port.Target, port.HostIP)
		}
	}

	const drain = 30 * time.Second // the default
	if grace := time.Duration(*daemon.StopGracePeriod); grace <= drain {
		t.Errorf("the stop grace period is %s, want more than the drain timeout of %s", grace, drain)
	}

	var variables []string

	for name, value := range daemon.Environment {
		variables = append(variables, name+"="+*value)
	}

	variables = slices.Clip(variables)
	programs := built(t)

	// The example's secrets are empty, so that no control plane runs with a
	// published token.
	if out, err := effectiveConfig(t, programs, append(variables, secrets[1:]...), ""); err == nil || !strings.Contains(out, "control.tokens") {
		t.Errorf("without a control token: %v\n%s", err, out)
	}

	if out, err := effectiveConfig(t, programs, append(variables, secrets...), ""); err != nil {
		t.Errorf("with its secrets: %v\n%s", err, out)
	}

	return variables
}

// checkUpstreams checks that Caddy proxies streams to all daemons. If Caddy is
// installed, it also adapts the Caddyfile.
func checkUpstreams(t *testing.T, found *types.Project, want string) {
	t.Helper()

	upstream := found.Services["caddy"].Environment["EVENTS_UPSTREAM"]
	if upstream == nil || *upstream != want {
		t.Fatalf("Caddy's upstreams are %v, want %s", upstream, want)
	}

	cmd := exec.CommandContext(t.Context(), program(t, "caddy"), "adapt", "--adapter", "caddyfile", "--config", "../caddy/Caddyfile")
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir(), "EVENTS_UPSTREAM="+want)

	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("caddy adapt: %v\n%s", err, out)
	}

	for address := range strings.FieldsSeq(want) {
		if !strings.Contains(string(out), `"dial":"`+address+`"`) {
			t.Errorf("Caddy doesn't dial %s: %s", address, out)
		}
	}
}
