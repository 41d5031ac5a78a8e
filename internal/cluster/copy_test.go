package cluster_test

import (
	"testing"

	"github.com/peald/peald/internal/testbed"
)

// TestNodesOnCopiesAreReported runs two nodes on copies of one directory, as
// happens with a cloned virtual machine.
func TestNodesOnCopiesAreReported(t *testing.T) {
	t.Parallel()
	cfgs, log := configs(t, 3), new(testbed.Log)
	var members []*member
	for i, cfg := range cfgs {
		if i == 2 {
			cfg.Logger = loggingTo(log)
		}
		members = append(members, start(t, cfg))
	}
	serving(t, members...)
	members[2].end(t)
	own := *cfgs[2].Embedded
	own.Dir += ".copy"
	own.Addr = testbed.FreeAddrs(t, 1)[0]
	copyDir(t, cfgs[2].Embedded.Dir, own.Dir)
	copied := members[2].cfg
	copied.Embedded = &own
	start(t, members[2].cfg)
	start(t, copied)
	eventually(t, func() bool { return len(log.With("level=ERROR", "has this node's name", "cluster.dir")) > 0 }, func() string {
		return "the copy is not reported:\n" + log.String()
	})
}
