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
	found := composed(t, "../compose.yaml")
	checkDaemon(t, found.Services["peald"], controlToken)
	checkUpstreams(t, found, "peald:8080")
}

func TestComposeOfACluster(t *testing.T) {
	found := composed(t, "../compose.cluster.yaml")
	ports, volumes, upstreams := map[string]string{}, map[string]string{}, []string{}

	for _, name := range []string{"peald-1", "peald-2", "peald-3"} {
		node := found.Services[name]
		upstreams = append(upstreams, name+":8080")
		variables := checkDaemon(t, node, controlToken, clusterSecret)

		// Whoever gets to a node's port for others reads and publishes all.
		if out, err := effective(t, built(t), append(variables, controlToken), ""); err == nil || !strings.Contains(out, "cluster.secret") {
			t.Errorf("%s without a cluster's secret: %v\n%s", name, err, out)
		}

		for _, port := range node.Ports {
			if other, taken := ports[port.Published]; taken {
				t.Errorf("%s publishes port %s of %s", name, port.Published, other)
			}

			ports[port.Published] = name
		}

		volume := node.Volumes[0]
		if other, taken := volumes[volume.Source]; taken || volume.Type != "volume" || volume.Target != stateFolder {
			t.Errorf("%s keeps its log at %+v, beside that of %q", name, volume, other)
		}

		volumes[volume.Source] = name

		if dir := node.Environment["PEALD_CLUSTER_DIR"]; *dir != volume.Target {
			t.Errorf("%s has its log in %s, and its volume at %s", name, *dir, volume.Target)
		}

		peers, _, _ := strings.Cut(*node.Environment["PEALD_CLUSTER_PEERS"], ":")
		if !slices.Contains(node.Networks[peers].Aliases, peers) {
			t.Errorf("the name %s does not stand for %s", peers, name)
		}
	}

	checkUpstreams(t, found, strings.Join(upstreams, " "))
}

// composed is what compose makes of a file, with the secrets that are to be
// filled in.
func composed(t *testing.T, file string) *types.Project {
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

// checkDaemon checks that a daemon starts with the secrets alone that are asked
// for, is reached by nobody beyond the machine, and has time to end. It returns
// its variables.
func checkDaemon(t *testing.T, daemon types.ServiceConfig, secrets ...string) []string {
	t.Helper()

	for _, port := range daemon.Ports {
		if port.HostIP != "127.0.0.1" {
			t.Errorf("port %d of the control plane is published to %q", port.Target, port.HostIP)
		}
	}

	const drain = 30 * time.Second // the default
	if grace := time.Duration(*daemon.StopGracePeriod); grace <= drain {
		t.Errorf("the daemon is killed after %s, and may take %s to end", grace, drain)
	}

	var variables []string

	for name, value := range daemon.Environment {
		variables = append(variables, name+"="+*value)
	}

	variables = slices.Clip(variables)
	programs := built(t)

	// The example's secrets are empty: nobody runs a control plane without.
	if out, err := effective(t, programs, append(variables, secrets[1:]...), ""); err == nil || !strings.Contains(out, "control.tokens") {
		t.Errorf("with no control token: %v\n%s", err, out)
	}

	if out, err := effective(t, programs, append(variables, secrets...), ""); err != nil {
		t.Errorf("with its secrets: %v\n%s", err, out)
	}

	return variables
}

// checkUpstreams checks that Caddy passes streams on to all daemons, as it
// understands itself where it is installed.
func checkUpstreams(t *testing.T, found *types.Project, want string) {
	t.Helper()

	upstream := found.Services["caddy"].Environment["EVENTS_UPSTREAM"]
	if upstream == nil || *upstream != want {
		t.Fatalf("Caddy passes streams on to %v, want %s", upstream, want)
	}

	cmd := exec.CommandContext(t.Context(), program(t, "caddy"), "adapt", "--adapter", "caddyfile", "--config", "../caddy/Caddyfile")
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir(), "EVENTS_UPSTREAM="+want)

	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("caddy adapt: %v\n%s", err, out)
	}

	for address := range strings.FieldsSeq(want) {
		if !strings.Contains(string(out), `"dial":"`+address+`"`) {
			t.Errorf("Caddy does not dial %s: %s", address, out)
		}
	}
}
