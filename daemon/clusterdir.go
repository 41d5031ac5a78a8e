package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/gofrs/flock"
)

// lockClusterDir locks cluster.dir for this daemon until release is called. Two daemons
// that wrote to it concurrently would corrupt the event log. The kernel holds the lock,
// so a daemon that is killed doesn't leave a lock behind.
//
// lockClusterDir must be called before any socket is opened. Otherwise, with
// sse.reuse_port, a daemon could accept connections and only then fail to start.
func lockClusterDir(cfg Cluster) (release func(), err error) {
	if cfg.Mode != ClusterEmbedded {
		return func() {}, nil
	}

	const mode = 0o700
	if err := os.MkdirAll(cfg.Dir, mode); err != nil {
		return nil, fmt.Errorf("cluster.dir: %w", err)
	}

	const private = 0o600
	lock := flock.New(filepath.Join(cfg.Dir, "lock"), flock.SetPermissions(private))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("cluster.dir: lock: %w", err)
	}
	if !locked {
		return nil, &SettingError{
			"cluster.dir", strconv.Quote(cfg.Dir) + ", which another daemon uses",
			"a directory that no other daemon uses; a clustered daemon can't be handed over, so stop the other one first",
		}
	}

	return func() { _ = lock.Close() }, nil
}
