package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/gofrs/flock"
)

// holdClusterDir makes cluster.dir this daemon's own until release is called:
// what two write there at once is no log. The lock is the kernel's, so that a
// daemon that was killed leaves none.
//
// It is to be had before anything listens: with sse.reuse_port a daemon that
// then does not start would have taken connections.
func holdClusterDir(cfg Cluster) (release func(), err error) {
	if cfg.Mode != ClusterEmbedded {
		return func() {}, nil
	}
	const mode = 0o700
	if err := os.MkdirAll(cfg.Dir, mode); err != nil {
		return nil, fmt.Errorf("cluster.dir: %w", err)
	}
	const private = 0o600
	lock := flock.New(filepath.Join(cfg.Dir, "lock"), flock.SetPermissions(private))
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("cluster.dir: locking it: %w", err)
	}
	if !held {
		return nil, &SettingError{
			"cluster.dir", strconv.Quote(cfg.Dir) + ", where another daemon runs",
			"a directory of this node's own; a daemon of a cluster is not handed over, end the other one first",
		}
	}
	return func() { _ = lock.Close() }, nil
}
