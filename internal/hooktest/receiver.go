// Package hooktest receives webhooks in tests. Its receiver follows the rules in
// docs/webhooks.md and checks that requests do too.
package hooktest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Secret is the secret that the receiver accepts.
const Secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// body is a request's body.
type body struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		Snapshot string   `json:"snapshot"`
		Sequence int      `json:"sequence"`
		Last     bool     `json:"last"`
		Users    []string `json:"users"`
		Topics   []string `json:"topics"`
		Events   []struct {
			Type   string    `json:"type"`
			UserID string    `json:"user_id"`
			Topic  string    `json:"topic"`
			Time   time.Time `json:"time"`
		} `json:"events"`
	} `json:"data"`
}

// Receiver keeps a picture of who is present, and collects the faults of requests. It is
// safe for concurrent use. It implements http.Handler.
type Receiver struct {
	delay time.Duration // of the hook

	mu       sync.Mutex
	snapshot string
	sequence int
	seen     map[string]bool      // snapshots
	complete bool                 // the picture is that of a complete snapshot
	picture  map[string]bool      // who is present
	building map[string]bool      // the pages of a snapshot that isn't complete
	last     map[string]time.Time // by key, the time of the last event since the snapshot
	events   map[string][]string  // by key, the events that have been applied
	faults   []string
}

// NewReceiver returns a receiver for a hook with a delay.
func NewReceiver(delay time.Duration) *Receiver {
	return &Receiver{delay: delay, seen: make(map[string]bool), picture: make(map[string]bool), events: make(map[string][]string)}
}

func (r *Receiver) faultf(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// Forget makes the receiver lose its state.
func (r *Receiver) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snapshot, r.sequence, r.complete = "", 0, false
	r.picture, r.building, r.seen = make(map[string]bool), nil, make(map[string]bool)
}

// Receive handles a request and returns the status of the response.
func (r *Receiver) Receive(header http.Header, text []byte) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	webhook, err := standardwebhooks.NewWebhook(Secret)
	if err != nil {
		panic(err)
	}
	if err := webhook.Verify(text, header); err != nil {
		r.faultf("signature: %v", err)
		return http.StatusUnauthorized
	}

	var b body
	if err := json.Unmarshal(text, &b); err != nil {
		r.faultf("body %q: %v", text, err)
		return http.StatusBadRequest
	}
	if len(text) > 100<<10 {
		r.faultf("a body of %d bytes", len(text))
	}
	if id, want := header.Get("Webhook-Id"), fmt.Sprintf("%s-%d", b.Data.Snapshot, b.Data.Sequence); id != want {
		r.faultf("webhook-id %q, want %q", id, want)
	}

	switch d := b.Data; {
	case d.Snapshot == r.snapshot && d.Sequence <= r.sequence:
		return http.StatusNoContent
	case d.Snapshot == r.snapshot && d.Sequence == r.sequence+1:
	case d.Sequence == 1 && !r.seen[d.Snapshot]:
		if b.Type != "peald.presence.snapshot" {
			r.faultf("the first request is a %s", b.Type)
		}
		r.snapshot, r.building = d.Snapshot, make(map[string]bool)
		r.seen[d.Snapshot] = true
	default:
		return http.StatusConflict
	}
	r.sequence = b.Data.Sequence
	if b.Type == "peald.presence.snapshot" {
		r.applyPage(b)
	} else {
		r.applyEvents(b)
	}
	return http.StatusNoContent
}

func (r *Receiver) applyPage(b body) {
	for _, user := range b.Data.Users {
		r.building["user "+user] = true
	}
	for _, topic := range b.Data.Topics {
		r.building["topic "+topic] = true
	}
	if b.Data.Last {
		r.picture, r.building, r.complete = r.building, nil, true
		r.last = make(map[string]time.Time)
	}
}

func (r *Receiver) applyEvents(b body) {
	if !r.complete || r.building != nil {
		r.faultf("events before the end of a snapshot")
	}
	for _, e := range b.Data.Events {
		kind, change, _ := strings.Cut(e.Type, ".")
		key := kind + " " + e.UserID + e.Topic
		present := change == "online" || change == "occupied"
		if r.picture[key] == present {
			r.faultf("%s for %s, which changes nothing", e.Type, key)
		}
		if e.Time.Before(r.last[key]) {
			r.faultf("%s for %s is %s before the last event", e.Type, key, r.last[key].Sub(e.Time))
		}
		if absent := b.Timestamp.Sub(e.Time); !present && absent < r.delay-time.Millisecond {
			r.faultf("%s for %s after %s, which is less than %s", e.Type, key, absent, r.delay)
		}
		r.last[key] = e.Time
		r.events[key] = append(r.events[key], fmt.Sprint(e.Type, " ", e.Time))
		if present {
			r.picture[key] = true
		} else {
			delete(r.picture, key)
		}
	}
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	text, err := io.ReadAll(req.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(r.Receive(req.Header, text))
}

// Complete reports whether the receiver has a complete snapshot.
func (r *Receiver) Complete() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.complete
}

// Events returns the events that have been applied, by user or topic.
func (r *Receiver) Events() map[string][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.events)
}

// Present returns the sorted users and topics that are present, such as "user alice" or
// "topic news", and the faults.
func (r *Receiver) Present() (keys, faults []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.picture)), slices.Clone(r.faults)
}
