package presence_test

import (
	"log/slog"
	"strings"
	"testing"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/testbed"
)

// TestTwoNodesWithTheSameName runs two nodes under one name, as on two copies of a
// directory. A node that is restarted after being killed isn't a duplicate.
func TestTwoNodesWithTheSameName(t *testing.T) {
	t.Parallel()
	s, log := startNATS(t), new(testbed.Log)
	a := joinLogging(t, s, "a", nameHandler{name: "a"}, slog.New(slog.NewTextHandler(log, nil)))
	killed := join(t, s, "c", nameHandler{name: "c"})
	joined(t, a, killed)
	killed.kill()
	join(t, s, "c", nameHandler{name: "c"})
	duplicate := join(t, s, "b", nameHandler{name: "b"})
	join(t, s, "b", nameHandler{name: "b"})

	reason := func(name string) string {
		for _, n := range a.Nodes() {
			if n.GetName() == name && n.GetState() == pealv1.NodeState_NODE_STATE_SERVING {
				return n.GetReason()
			}
		}
		return ""
	}

	eventually(t, func() bool { return strings.Contains(reason("b"), "two nodes have this name") }, "the duplicate is not reported: %v", a.Nodes())
	if lines := log.With("level=ERROR"); len(lines) != 1 || !strings.Contains(lines[0], "node=b") {
		t.Errorf("logged errors: %q, want one for node b", lines)
	}
	if why := reason("c"); why != "" {
		t.Errorf("the restarted node has the reason %q, want none", why)
	}
	duplicate.stop()
	eventually(t, func() bool { return reason("b") == "" }, "the name still counts as duplicated")
	if lines := log.With("level=ERROR"); len(lines) != 1 {
		t.Errorf("logged errors: %q, want one", lines)
	}
}
