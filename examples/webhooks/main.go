// Command webhooks receives peald's webhooks and keeps a list of who is online. It
// verifies signatures with the Standard Webhooks library, rejects requests that have
// been replayed, and survives repeated, lost and late ones.
//
// The list is in memory. A receiver with a database does the same in a transaction for
// each request.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// message is the body of a request.
type message struct {
	Type string `json:"type"`
	Data struct {
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

// picture holds the users and topics that are present.
type picture struct{ users, topics map[string]bool }

func newPicture() *picture { return &picture{make(map[string]bool), make(map[string]bool)} }

// receiver is an http.Handler for webhooks.
type receiver struct {
	webhook *standardwebhooks.Webhook

	mu       sync.Mutex
	snapshot string               // the id of the snapshot that the picture builds on
	sequence int                  // the number of the last request that was applied
	seen     map[string]time.Time // ids of snapshots, and when they arrived
	present  *picture
	next     *picture // from a snapshot whose last page hasn't arrived; otherwise nil
}

// maxBody limits the size of a request. The daemon's requests have at most about 70 kB.
const maxBody = 1 << 20

func newReceiver(secret string) (*receiver, error) {
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, err
	}
	return &receiver{webhook: webhook, seen: make(map[string]time.Time), present: newPicture()}, nil
}

// ServeHTTP receives a webhook with POST, and shows who is present with GET.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPost {
		r.show(w)
		return
	}

	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// Verify also rejects requests that were signed more than 5 minutes ago.
	if err := r.webhook.Verify(body, req.Header); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(r.receive(m, time.Now()))
}

// receive applies a message and returns the status of the response. With 409, the daemon
// sends a snapshot.
func (r *receiver) receive(m message, now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.Type != "peald.presence" && m.Type != "peald.presence.snapshot" {
		log.Printf("got a message of type %q", m.Type)
		return http.StatusNoContent
	}

	// A replayed request fails verification after 5 minutes, and until then its snapshot
	// is known.
	maps.DeleteFunc(r.seen, func(_ string, at time.Time) bool { return now.Sub(at) > 15*time.Minute })
	_, seen := r.seen[m.Data.Snapshot]
	switch d := m.Data; {
	case d.Snapshot == r.snapshot && d.Sequence <= r.sequence:
		return http.StatusNoContent // it is repeated because the response was lost
	case d.Snapshot == r.snapshot && d.Sequence == r.sequence+1:
	case d.Sequence == 1 && !seen:
		r.snapshot, r.next = d.Snapshot, newPicture()
		r.seen[d.Snapshot] = now
	default:
		return http.StatusConflict // requests are missing, or it is late or replayed
	}
	r.sequence = m.Data.Sequence

	if m.Type == "peald.presence.snapshot" {
		r.applyPage(m)
	} else {
		r.applyEvents(m)
	}
	return http.StatusNoContent
}

func (r *receiver) applyPage(m message) {
	for _, user := range m.Data.Users {
		r.next.users[user] = true
	}
	for _, topic := range m.Data.Topics {
		r.next.topics[topic] = true
	}
	if m.Data.Last {
		r.present, r.next = r.next, nil
		log.Printf("snapshot: %d users and %d topics", len(r.present.users), len(r.present.topics))
	}
}

func (r *receiver) applyEvents(m message) {
	for _, e := range m.Data.Events {
		switch e.Type {
		case "user.online":
			r.present.users[e.UserID] = true
		case "user.offline":
			delete(r.present.users, e.UserID)
		case "topic.occupied":
			r.present.topics[e.Topic] = true
		case "topic.vacated":
			delete(r.present.topics, e.Topic)
		}
		log.Printf("%s %q", e.Type, e.UserID+e.Topic)
	}
}

// show writes who is present.
func (r *receiver) show(w http.ResponseWriter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	err := json.NewEncoder(w).Encode(map[string][]string{
		"users":  append([]string{}, slices.Sorted(maps.Keys(r.present.users))...),
		"topics": append([]string{}, slices.Sorted(maps.Keys(r.present.topics))...),
	})
	if err != nil {
		log.Printf("could not show who is present: %v", err)
	}
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "address to listen on")
	flag.Parse()
	if err := run(*addr, os.Getenv("WEBHOOK_SECRET")); err != nil {
		log.Fatal(err)
	}
}

func run(addr, secret string) error {
	if secret == "" {
		return errors.New("set WEBHOOK_SECRET to the secret of the hook")
	}
	r, err := newReceiver(secret)
	if err != nil {
		return fmt.Errorf("WEBHOOK_SECRET: %w", err)
	}
	server := &http.Server{Addr: addr, Handler: r, ReadTimeout: 10 * time.Second}
	log.Printf("receiving webhooks on http://%s", addr)
	return server.ListenAndServe()
}
