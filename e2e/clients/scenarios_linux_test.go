package clients_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// The table's words for good behavior. A client whose plain use shows any other
// word needs recommended code that shows one of these.
const (
	resumes  = "resumes"
	resets   = "`peald.reset`"
	stops    = "stops"
	arrives  = "arrives"
	promptly = "immediately"
)

// The words for behavior that recommended code must not show.
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
	missed   = "sent while the client was disconnected"
	sentinel = "sent after it reconnected"
)

// scenario observes one stream and returns a word for its behavior. It runs in a
// separate goroutine, so it must not call t.Fatal.
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

	if !w.close(t, s, 0) {
		return silent
	}

	send(t, w.control, s, missed)

	n := s.number()
	s.recorder.release()

	return w.reconnects(t, w.control, s, n)
}

// close closes all streams of a stream's user, and bans the user for the given time
// if it is positive. The client may be reconnecting at that moment, which has the
// same effect.
func (w *world) close(t *testing.T, s *stream, ban time.Duration) bool {
	t.Helper()

	request := &pealv1.DisconnectRequest{UserId: s.user}
	if ban > 0 {
		request.For = durationpb.New(ban)
	}

	if _, err := w.control.Disconnect(t.Context(), request); err != nil {
		t.Errorf("%s: disconnect %s: %v", s.name, s.user, err)

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

// number returns the number of streams that the client has opened so far.
func (s *stream) number() int {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.begun()
}

// reconnects waits until a client has opened more than before streams, or has
// given up. It returns a word for what happened to the missed event.
func (w *world) reconnects(t *testing.T, to pealv1.ControlServiceClient, s *stream, before int) string {
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

// killed kills the daemon with SIGKILL and restarts it with the same address and
// history.
func killed(t *testing.T, w *world, s *stream) string {
	t.Helper()

	return w.interrupt(t, s, w.killedControl, w.killing, w.killedControl)
}

// drained shuts the daemon down, while another one with another history takes
// over its address.
func drained(t *testing.T, w *world, s *stream) string {
	t.Helper()

	return w.interrupt(t, s, w.drainedControl, w.draining, w.drainingTo)
}

// interrupt waits, together with all other streams in the scenario, until their
// daemon has stopped, and returns a word for how the client reconnects. The control
// planes are those of the daemons before and after.
func (w *world) interrupt(t *testing.T, s *stream, before pealv1.ControlServiceClient, stop *meeting, after pealv1.ControlServiceClient) string {
	t.Helper()

	ready := s.opens() && w.delivered(t, before, s, first)
	n := s.number()

	stop.arrive(s)
	<-stop.done

	if !ready {
		return silent
	}

	return w.reconnects(t, after, s, n)
}

// refused asks a client that reconnects to retry.
func refused(t *testing.T, w *world, s *stream) string {
	t.Helper()

	if !s.opens() || !w.delivered(t, w.control, s, first) {
		return silent
	}

	w.app.answer(s.user, http.StatusInternalServerError)

	n := s.number()

	if !w.close(t, s, 0) {
		return silent
	}

	if !s.await(patience, func() bool { return s.refused() > 0 || s.ended != "" }) {
		return silent
	}

	send(t, w.control, s, missed)
	w.app.answer(s.user, 0)

	return w.reconnects(t, w.control, s, n)
}

// unauthorized rejects a client that reconnects with 401.
func unauthorized(t *testing.T, w *world, s *stream) string {
	t.Helper()

	if !s.opens() {
		return silent
	}

	w.app.answer(s.user, http.StatusUnauthorized)

	if !w.close(t, s, 0) {
		return silent
	}

	return w.givesUp(s, http.StatusUnauthorized)
}

// banned rejects a client that reconnects with 204.
func banned(t *testing.T, w *world, s *stream) string {
	t.Helper()

	if !s.opens() || !w.close(t, s, time.Hour) {
		return silent
	}

	return w.givesUp(s, http.StatusNoContent)
}

// overLimit rejects a client that reconnects with 429.
func overLimit(t *testing.T, w *world, s *stream) string {
	t.Helper()

	if !s.opens() {
		return silent
	}

	s.recorder.hold()

	if !w.close(t, s, 0) {
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

// givesUp returns a word for the behavior of a client that gets a status. After
// enough requests, the client counts as not having given up. The time between the
// requests shows whether it waits; a busy machine can only make that time longer.
func (w *world) givesUp(s *stream, status int) string {
	const enough = 4

	rejected := func() (times []time.Time) {
		for _, r := range s.requests {
			if r.status == status {
				times = append(times, r.at)
			}
		}

		return times
	}

	if !s.await(patience, func() bool { return s.ended != "" || len(rejected()) >= enough }) {
		return silent
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	if s.ended != "" {
		return stops
	}

	times := rejected()
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

	// A client that is slow on a busy machine may try twice.
	const maxRequests = 6

	if !s.await(patience, func() bool { return s.has(data) || s.ended != "" || len(s.requests) > maxRequests }) {
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

// idle sends single events to a stream after a period of silence.
func idle(t *testing.T, w *world, s *stream) string {
	t.Helper()

	if !s.opens() {
		return silent
	}

	// Detects clients that treat silence as a broken connection. The timeout of
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
