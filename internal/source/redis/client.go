package redis

import (
	"errors"
	"fmt"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// newClient returns a client for up to the given number of concurrent commands. It does
// no network I/O. The caller must close the client.
func (c Config) newClient(concurrency int) (goredis.UniversalClient, error) {
	o, err := c.options()
	if err != nil {
		return nil, errors.New("redis.url isn't valid") // the error may contain parts of the password
	}

	if c.TLS.Active() {
		if o.TLSConfig, err = c.TLS.Config(); err != nil {
			return nil, fmt.Errorf("redis.%w", err)
		}
	}

	// A read that is repeated would skip the entries in the reply that was lost.
	o.MaxRetries = -1
	o.DialerRetries = 1 // the manager tries again
	o.PoolSize = concurrency
	o.ContextTimeoutEnabled = true
	// RESP2 suffices, and needs no HELLO, which some proxies don't support.
	o.Protocol = 2
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}

	// The library would write lines of its own to stderr. All errors are also returned.
	logging.Disable()

	return goredis.NewUniversalClient(o), nil
}
