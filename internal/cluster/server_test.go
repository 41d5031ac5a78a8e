package cluster_test

import (
	"os"
	"path/filepath"
	"testing"
)

// TestServerDoesNotStart puts a file in place of the embedded server's directory.
// The node must fail to start with one line that names it.
func TestServerDoesNotStart(t *testing.T) {
	t.Parallel()
	for store, nodes := range map[string]int{"alone": 1, "cluster": 3} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			cfg := configs(t, nodes)[0]
			path := filepath.Join(cfg.Embedded.Dir, store, "jetstream")
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
			must(t, os.WriteFile(path, nil, 0o600))
			_, err := tryStart(t, cfg, brokerConfig())
			if err == nil {
				t.Fatal("the node starts")
			}
			namesFile(t, err, path)
		})
	}
}
