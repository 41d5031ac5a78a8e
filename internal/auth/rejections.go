package auth

import (
	"log/slog"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// repeatAfter is the shortest time between two log lines for the same rejection.
	repeatAfter = 10 * time.Minute

	// maxRejections bounds how many rejections are told apart. Beyond it the
	// one that was logged longest ago is forgotten.
	maxRejections = 64
)

// rejectionLog logs each rejection once in a while, since broken tokens and
// answers come in crowds. Its methods are safe for concurrent use.
type rejectionLog struct {
	log *slog.Logger

	mu     sync.Mutex
	logged *lru.Cache[string, time.Time] // by message and error
}

func newRejectionLog(log *slog.Logger) *rejectionLog {
	logged, err := lru.New[string, time.Time](maxRejections)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &rejectionLog{log: log, logged: logged}
}

// warn logs a rejection, unless it did so less than repeatAfter ago.
func (r *rejectionLog) warn(message string, err error) {
	key := message + ": " + err.Error()
	now := time.Now()

	r.mu.Lock()
	last, known := r.logged.Peek(key)

	repeated := known && now.Sub(last) < repeatAfter
	if !repeated {
		r.logged.Add(key, now)
	}

	r.mu.Unlock()

	if !repeated {
		r.log.Warn(message, "error", err)
	}
}
