package clients_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// The words of the table. A client whose plain use earns another word than these
// needs a recommended use that earns one of them.
const (
	resumes  = "resumes"
	resets   = "`peald.reset`"
	stops    = "stops"
	arrives  = "arrives"
	promptly = "at once"
)

// The words for what a recommended use must not do.
const (
	loses    = "loses events"
	repeats  = "repeats events"
	silent   = "hangs"
	goesOn   = "keeps trying"
	hammers  = "keeps trying without a pause"
	tooLarge = "fails again and again"
	late     = "late"

	impatient = "reconnects after 5 s"
)

const (
	first    = "first"
	missed   = "sent while the client was away"
	sentinel = "sent after it came back"
)

// scenario observes one stream and returns a word. It runs in a goroutine of its
// own, so it fails the test by Errorf alone.
type scenario func(t *testing.T, w *world, s *stream) string

// disconnectedBefore closes a stream that has received no event.
func disconnectedBefore(t *testing.T, w *world, s *stream) string {
	t.Helper()

	return w.disconnect(t, s, false)
}

// disconnectedAfter closes a stream that has received an event.
func disconnectedAfter(t *testing.T, w *world, s *stream) string {
	t.Helper()

	return w.disconnect(t, s, true)
}

func (w *world) disconnect(t *testing.T, s *stream, event bool) string {
	t.Helper()

	if !s.opens() {
		return silent
	}

	if event && !w.delivered(t, w.control, s, first) {
		return silent
	}

	s.recorder.hold()

	if !w.end(t, s, 0) {
		return silent
	}

	send(t, w.control, s, missed)

	n := s.number()
	s.recorder.release()

	return w.comesBack(t, w.control, s, n)
}

// end closes the stream of a user. There is none if the client reconnects just
// then, which has the same effect.
func (w *world) end(t *testing.T, s *stream, away time.Duration) bool {
	t.Helper()

	request := &pealv1.DisconnectRequest{UserId: s.user}
	if away > 0 {
		request.For = durationpb.New(away)
	}

	if _, err := w.control.Disconnect(t.Context(), request); err != nil {
		t.Errorf("%s: disconnecting %s: %v", s.name, s.user, err)

		return false
	}

	return true
}

// delivered sends data and reports whether the client receives it.
func (w *world) delivered(t *testing.T, to pealv1.ControlServiceClient, s *stream, data string) bool {
	t.Helper()
	send(t, to, s, data)

	return s.await(patience, func() bool { return s.has(data) || s.ended != "" }) && s.ended == ""
}

// opens reports whether a client opens its first stream.
func (s *stream) opens() bool {
	return s.await(patience, func() bool { return s.begun() > 0 || s.ended != "" }) && s.ended == ""
}

// number returns how many responses to the client were streams so far.
func (s *stream) number() int {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.begun()
}

// comesBack waits until a client has opened a stream again, or has given up, and
// returns what became of the event that it missed.
func (w *world) comesBack(t *testing.T, to pealv1.ControlServiceClient, s *stream, before int) string {
	t.Helper()

	if !s.await(patience, func() bool { return s.begun() > before || s.ended != "" }) {
		return silent
	}

	s.mu.Lock()
	ended := s.ended != ""
	s.mu.Unlock()

	if ended {
		return stops
	}

	if !w.delivered(t, to, s, sentinel) {
		return silent
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	switch {
	case s.count(first) > 1 || s.count(missed) > 1 || s.count(sentinel) > 1:
		return repeats
	case s.has(missed) && !s.reset():
		return resumes
	case s.reset():
		return resets
	default:
		return loses
	}
}

// killed ends the daemon by SIGKILL and starts it again, on the same address and
// with the same history.
func killed(t *testing.T, w *world, s *stream) string {
	t.Helper()

	ready := s.opens() && w.delivered(t, w.killedControl, s, first)
	n := s.number()

	w.killing.arrive(s)
	<-w.killing.done

	if !ready {
		return silent
	}

	return w.comesBack(t, w.killedControl, s, n)
}

// drained shuts the daemon down, while another one that has not its history
// takes its connections.
func drained(t *testing.T, w *world, s *stream) string {
	t.Helper()

	ready := s.opens() && w.delivered(t, w.drainedControl, s, first)
	n := s.number()

	w.draining.arrive(s)
	<-w.draining.done

	if !ready {
		return silent
	}

	return w.comesBack(t, w.drainingTo, s, n)
}

// refusedForNow answers a client that reconnects with a temporary refusal.
func refusedForNow(t *testing.T, w *world, s *stream) string {
	t.Helper()

	if !s.opens() || !w.delivered(t, w.control, s, first) {
		return silent
	}

	w.app.answer(s.user, http.StatusInternalServerError)

	n := s.number()

	if !w.end(t, s, 0) {
		return silent
	}

	if !s.await(patience, func() bool { return s.refused() > 0 || s.ended != "" }) {
		return silent
	}

	send(t, w.control, s, missed)
	w.app.answer(s.user, 0)

	return w.comesBack(t, w.control, s, n)
}

// unauthorized answers a client that reconnects with 401.
func unauthorized(t *testing.T, w *world, s *stream) string {
	t.Helper()

	if !s.opens() {
		return silent
	}

	w.app.answer(s.user, http.StatusUnauthorized)

	if !w.end(t, s, 0) {
		return silent
	}

	return w.givesUp(s, http.StatusUnauthorized)
}

// toldToStayAway answers a client that reconnects with 204.
func toldToStayAway(t *testing.T, w *world, s *stream) string {
	t.Helper()

	if !s.opens() || !w.end(t, s, time.Hour) {
		return silent
	}

	return w.givesUp(s, http.StatusNoContent)
}

// overTheLimit answers a client that reconnects with 429.
func overTheLimit(t *testing.T, w *world, s *stream) string {
	t.Helper()

	if !s.opens() {
		return silent
	}

	s.recorder.hold()

	if !w.end(t, s, 0) {
		return silent
	}

	for range streamsPerUser {
		response, err := http.Get("http://" + w.daemon.SSE + "/events?user=" + s.user)
		if err != nil {
			t.Errorf("a stream of %s: %v", s.user, err)

			return silent
		}
		defer response.Body.Close()

		if response.StatusCode != http.StatusOK {
			t.Errorf("a stream of %s: %s", s.user, response.Status)
		}
	}

	s.recorder.release()

	return w.givesUp(s, http.StatusTooManyRequests)
}

// givesUp returns what a client does that is answered with a status: enough
// requests show that it doesn't give up, and the time between them, which a busy
// machine only makes longer, whether it waits.
func (w *world) givesUp(s *stream, status int) string {
	const enough = 4

	refused := func() (times []time.Time) {
		for _, r := range s.requests {
			if r.status == status {
				times = append(times, r.at)
			}
		}

		return times
	}

	if !s.await(patience, func() bool { return s.ended != "" || len(refused()) >= enough }) {
		return silent
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	if s.ended != "" {
		return stops
	}

	times := refused()
	if times[enough-1].Sub(times[0]) < retry {
		return hammers
	}

	return goesOn
}

// large sends an event of 1 MiB in one line.
func large(t *testing.T, w *world, s *stream) string {
	t.Helper()

	if !s.opens() {
		return silent
	}

	data := strings.Repeat("0123456789abcdef", 1<<20/16)
	send(t, w.control, s, data)

	// A client that takes long for it on a busy machine may try twice.
	const again = 6

	if !s.await(patience, func() bool { return s.has(data) || s.ended != "" || len(s.requests) > again }) {
		return silent
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	switch {
	case s.has(data):
		return arrives
	case s.ended != "":
		return stops
	default:
		return tooLarge
	}
}

// idle sends single events to a stream after some silence.
func idle(t *testing.T, w *world, s *stream) string {
	t.Helper()

	if !s.opens() {
		return silent
	}

	// The wait shows clients that take silence for a broken connection: that of
	// Node's HTTP agent is 5 s.
	if s.await(2*5*time.Second, func() bool { return len(s.requests) > 1 || s.ended != "" }) {
		return impatient
	}

	for _, data := range []string{"one", "two", "three"} {
		send(t, w.control, s, data)

		if !s.await(patience, func() bool { return s.has(data) }) {
			return late
		}
	}

	return promptly
}
