package hooks_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/hooks"
	"github.com/peald/peald/internal/hooktest"
)

const receiverURL = "https://app.example/hooks"

// errBroken is the error of a broken connection.
var errBroken = errors.New("connection broken")

// faults makes a transport fail. Tests run in a bubble, in which the seed and the order
// of requests determine the faults.
type faults struct {
	receiver *hooktest.Receiver
	level    atomic.Int64 // 0 for no faults; otherwise about one in level requests fails
	random   func(n int) int
	forgets  bool // the receiver sometimes loses its state
}

// roundTrip passes a request to the receiver, before or after which something may fail.
func (f *faults) roundTrip(req *http.Request) (*http.Response, error) {
	text, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	level := int(f.level.Load())
	if level == 0 || f.random(level) != 0 {
		return respond(req, f.receiver.Receive(req.Header, text)), nil
	}

	switch f.random(7) {
	case 0:
		return nil, errBroken
	case 1: // the request arrives, but the response is lost
		f.receiver.Receive(req.Header, text)
		return nil, errBroken
	case 2:
		resp := respond(req, http.StatusServiceUnavailable)
		resp.Header.Set("Retry-After", "2")
		return resp, nil
	case 3: // no response
		<-req.Context().Done()
		return nil, req.Context().Err()
	case 4: // the request arrives late, perhaps after its sender has given up
		delay := time.NewTimer(time.Duration(f.random(1500)) * time.Millisecond)
		defer delay.Stop()
		<-delay.C
		return respond(req, f.receiver.Receive(req.Header, text)), nil
	case 5:
		if f.forgets {
			f.receiver.Forget()
		}
		return respond(req, f.receiver.Receive(req.Header, text)), nil
	default:
		return respond(req, http.StatusInternalServerError), nil
	}
}

// TestReceiverHasTheRightPicture opens and closes streams, while requests fail, the
// receiver forgets, and nodes stop serving. In the end, the receiver must know who is
// present. It must never get events out of order.
func TestReceiverHasTheRightPicture(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) { checkPicture(t, rt) })
	})
}

func checkPicture(t *testing.T, rt *rapid.T) {
	t.Helper()
	delay := time.Duration(rapid.SampledFrom([]int{0, 1, 5}).Draw(rt, "delay")) * time.Second
	seed := rapid.Uint64().Draw(rt, "seed")
	f := &faults{receiver: hooktest.NewReceiver(delay), random: newRandom(seed), forgets: rapid.Bool().Draw(rt, "forgets")}
	f.level.Store(int64(rapid.IntRange(0, 4).Draw(rt, "faults")))

	w, c := newTruth(), &cluster{}
	for range rapid.IntRange(1, 3).Draw(rt, "nodes") {
		c.join(t, w, transport(f.roundTrip), hook(receiverURL, delay))
	}
	for range rapid.IntRange(0, 80).Draw(rt, "steps") {
		time.Sleep(time.Duration(rapid.SampledFrom([]int{0, 0, 50, 300, 1000, 4000}).Draw(rt, "wait")) * time.Millisecond)
		switch name := fmt.Sprint("name", rapid.IntRange(0, 3).Draw(rt, "name")); rapid.IntRange(0, 11).Draw(rt, "action") {
		case 0:
			n := rapid.SampledFrom(c.nodes).Draw(rt, "node")
			n.setServing(!n.isServing())
		case 1:
			w.loseChanges()
		case 2, 3, 4:
			w.set("", name, rapid.IntRange(0, 1).Draw(rt, "streams"))
		default:
			w.set(name, "", rapid.IntRange(0, 1).Draw(rt, "streams"))
		}
	}

	f.level.Store(0)
	for _, n := range c.nodes {
		n.setServing(true)
	}
	// Everything that can still happen: the longest retry, departures, an empty batch and
	// the snapshot that it may cause.
	time.Sleep(time.Minute + 2*time.Minute)
	synctest.Wait()

	got, wrong := f.receiver.Present()
	if len(wrong) > 0 {
		rt.Fatalf("%d faults: %q", len(wrong), wrong[:min(5, len(wrong))])
	}
	if want := w.present(); !slices.Equal(got, want) {
		rt.Fatalf("present are %q, want %q", got, want)
	}
	sending := 0
	for _, n := range c.nodes {
		for _, s := range n.Status() {
			if s.State == hooks.Sending {
				sending++
			} else if s.State != hooks.Standby {
				rt.Fatalf("a node has the state %v", s.State)
			}
		}
		n.stop()
	}
	if sending != 1 {
		rt.Fatalf("%d nodes send, want 1", sending)
	}
}

// newRandom returns a function that returns pseudo-random numbers below n. It is safe
// for concurrent use.
func newRandom(seed uint64) func(n int) int {
	var state atomic.Uint64
	state.Store(seed)
	return func(n int) int {
		x := state.Add(0x9e3779b97f4a7c15) // SplitMix64
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		return int((x ^ x>>31) % uint64(n))
	}
}

// TestEveryEventArrives compares the events that arrive at a receiver that fails with
// those that arrive at one that doesn't. They must be the same, in the same order for
// each user and topic.
func TestEveryEventArrives(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			perfect := hooktest.NewReceiver(time.Second)
			f := &faults{receiver: hooktest.NewReceiver(time.Second), random: newRandom(rapid.Uint64().Draw(rt, "seed"))}
			f.level.Store(int64(rapid.IntRange(1, 3).Draw(rt, "faults")))
			w := newTruth()
			_, stop := run(t, hooks.Config{Follow: w.follow}, transport(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/perfect" {
					return direct(perfect)(r)
				}
				return f.roundTrip(r)
			}), hook("https://app.example/perfect", time.Second), hook("https://app.example/failing", time.Second))

			time.Sleep(2 * time.Second)
			for range rapid.IntRange(1, 60).Draw(rt, "steps") {
				time.Sleep(time.Duration(rapid.SampledFrom([]int{0, 300, 1500}).Draw(rt, "wait")) * time.Millisecond)
				name := fmt.Sprint("name", rapid.IntRange(0, 3).Draw(rt, "name"))
				w.set(name, "of "+name, rapid.IntRange(0, 1).Draw(rt, "streams"))
			}
			f.level.Store(0)
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			stop()

			_, wrong := f.receiver.Present()
			if len(wrong) > 0 {
				rt.Fatalf("faults: %q", wrong)
			}
			// The failing receiver may get its snapshot later, and then lacks the events before it.
			for key, want := range perfect.Events() {
				got := f.receiver.Events()[key]
				if len(got) > len(want) || !slices.Equal(got, want[len(want)-len(got):]) {
					rt.Fatalf("%s: events %q, want %q", key, got, want)
				}
			}
		})
	})
}
