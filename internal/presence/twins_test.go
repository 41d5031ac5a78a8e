package presence_test

import (
	"log/slog"
	"strings"
	"testing"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

// TestTwoNodesOfOneName has two daemons run under one name, as on two copies of a
// directory, and one that is started anew, as after it was killed.
func TestTwoNodesOfOneName(t *testing.T) {
	t.Parallel()
	s, log := startNATS(t), new(pealdtest.Log)
	a := joinLogging(t, s, "a", names{name: "a"}, slog.New(slog.NewTextHandler(log, nil)))
	killed := join(t, s, "c", names{name: "c"})
	all(t, a, killed)
	killed.kill()
	join(t, s, "c", names{name: "c"})
	twin := join(t, s, "b", names{name: "b"})
	join(t, s, "b", names{name: "b"})

	reason := func(name string) string {
		for _, n := range a.Nodes() {
			if n.GetName() == name && n.GetState() == pealv1.NodeState_NODE_STATE_SERVING {
				return n.GetReason()
			}
		}
		return ""
	}
	eventually(t, func() bool { return strings.Contains(reason("b"), "two nodes have this name") }, "the two are not reported: %v", a.Nodes())
	if said := log.With("level=ERROR"); len(said) != 1 || !strings.Contains(said[0], "node=b") {
		t.Errorf("errors are logged other than that b is two: %q", said)
	}
	if why := reason("c"); why != "" {
		t.Errorf("the node that was started anew has the reason %q", why)
	}
	twin.stop()
	eventually(t, func() bool { return reason("b") == "" }, "the name counts on as that of two")
	if said := log.With("level=ERROR"); len(said) != 1 {
		t.Errorf("it is logged again: %q", said)
	}
}
