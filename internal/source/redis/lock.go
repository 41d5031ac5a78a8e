package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const (
	// A stream stays locked for up to lockTTL after its reader has died.
	lockTTL = 10 * time.Second
	// renewInterval is the time between two extensions of a lock by its holder.
	renewInterval = lockTTL / 4
	// acquireInterval is the time between two attempts of other readers to acquire it.
	acquireInterval = time.Second
)

// errLockLost is returned if the reader doesn't hold its lock any more.
var errLockLost = errors.New("the lock was lost")

// lock is a key that makes its holder the only reader of a stream. It is safe for
// concurrent use.
type lock struct {
	client goredis.UniversalClient
	key    string
	token  string // the key's value, which no other holder uses
}

// lockKey returns the key of the lock for reading stream through group. In a Redis
// Cluster it is in the same slot as the stream, as scripts require.
func lockKey(stream, group string) string {
	return "peald:source:{" + hashTag(stream) + "}:" + stream + ":" + group
}

// hashTag returns the part of a key that determines its slot: the text between the first
// "{" and the next "}", or the whole key if there is no such text.
func hashTag(key string) string {
	if _, rest, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(rest, "}"); ok && tag != "" {
			return tag
		}
	}

	return key
}

// tryLock acquires the lock with the given key. Previous is the token with which this
// reader last held it, or empty. Such a lock may still exist after a lost connection. It
// gets a new token, because commands with the previous one may still be on their way to
// the server. TryLock returns false if another reader holds the lock.
func tryLock(ctx context.Context, client goredis.UniversalClient, key, previous string) (l *lock, ok bool, err error) {
	l = &lock{client: client, key: key, token: rand.Text()}

	acquired, err := acquireScript().Run(ctx, client, []string{key}, l.token, previous, lockTTL.Milliseconds()).Int()
	if err != nil {
		return nil, false, fmt.Errorf("acquiring the lock %q: %w", key, err)
	}

	return l, acquired != 0, nil
}

// keep extends the lock until ctx ends. It returns [errLockLost] if the lock was lost.
func (l *lock) keep(ctx context.Context) error {
	ticker := time.NewTicker(renewInterval)
	defer ticker.Stop()

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}

		held, err := renewScript().Run(ctx, l.client, []string{l.key}, l.token, lockTTL.Milliseconds()).Int()

		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("extending the lock %q: %w", l.key, err)
		case held == 0:
			return errLockLost
		}
	}
}

// release gives the lock up, so that another reader doesn't wait until it expires.
func (l *lock) release(ctx context.Context) error {
	if err := releaseScript().Run(ctx, l.client, []string{l.key}, l.token).Err(); err != nil {
		return fmt.Errorf("releasing the lock %q: %w", l.key, err)
	}

	return nil
}
