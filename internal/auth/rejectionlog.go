package auth

import (
	"log/slog"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// repeatAfter is the minimum time between two log lines for the same rejection.
	repeatAfter = 10 * time.Minute

	// maxRejections is the maximum number of rejections that are remembered. Beyond
	// that, the least recently logged one is forgotten.
	maxRejections = 64
)

// rejectionLog limits how often the same rejection is logged, because invalid tokens
// and responses occur in bursts. Its methods are safe for concurrent use.
type rejectionLog struct {
	log *slog.Logger

	mu     sync.Mutex
	logged *lru.Cache[string, time.Time] // by message and error
}

func newRejectionLog(log *slog.Logger) *rejectionLog {
	logged, err := lru.New[string, time.Time](maxRejections)
	if err != nil {
		panic(err) // the size is invalid, which is a bug
	}
	return &rejectionLog{log: log, logged: logged}
}

// warn logs a rejection, unless it was logged less than repeatAfter ago.
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
