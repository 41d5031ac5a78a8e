package ssehttp

import (
	"net/http"
	"slices"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/engine"
)

// enter counts a stream or poll, and waits until this daemon has the event after which
// the stream or poll resumes. It returns a rejection if there are no more events to
// send because the topic has ended. If it returns a rejection, it has released the
// reservation.
func (h *Handler) enter(r *http.Request, rules *rules, sub broker.Subscription, res *reservation) *rejection {
	if n := h.open.Add(1); rules.cfg.MaxConnections > 0 && n > int64(rules.cfg.MaxConnections) {
		h.closed(res)
		return askToRetry(Full)
	}
	if err := h.broker.Await(r.Context(), sub.LastEventID); err != nil {
		h.closed(res)
		return askToRetry(Suspended)
	}
	if h.broker.NothingFollows(sub.Topics, sub.LastEventID) {
		h.closed(res)
		return &rejection{cause: Ended, status: http.StatusNoContent}
	}
	return nil
}

// closed releases a stream's reservation, and stops counting the stream.
func (h *Handler) closed(res *reservation) {
	res.release()
	h.open.Add(-1)
}

// takeOver lets the engine take over the request's connection. It returns false if the
// stream must use net/http.
func (h *Handler) takeOver(w http.ResponseWriter, r *http.Request) (_ engine.Body, taken bool, _ error) {
	if h.engine == nil {
		return nil, false, nil
	}
	return h.engine.TakeOver(w, r)
}

// hold starts st on a body that the engine has taken over. Except over HTTP/2, it adds
// the response head to open first. Even after an error, the stream counts and keeps its
// reservation until the body is closed. lines may be nil.
func (h *Handler) hold(body engine.Body, open broker.Opening, w http.ResponseWriter, r *http.Request, st *broker.Stream, res *reservation, retry time.Duration, lines *streamLog) error {
	if err := h.attach(body, st, res); err != nil {
		return err
	}
	if body.Transport() != engine.HTTP2 {
		open.Chunked = r.ProtoAtLeast(1, 1)
		open.Head = h.heads.of(w.Header(), open.Chunked, time.Now())
	}
	err := st.Start(lines.around(body, heldAs(body.Transport())), open)
	if err != nil {
		// It is too late for another status, so ask the client to retry.
		body.Finish(slices.Concat(open.Head, retryBody(r, retry, open)))
	}
	return err
}

// attach connects st to a body that the engine has taken over, and counts the stream.
// Even after an error, the stream counts and keeps its reservation until the body is
// closed.
func (h *Handler) attach(body engine.Body, st *broker.Stream, res *reservation) error {
	by := heldAs(body.Transport())
	h.held[by].Add(1)
	done := h.uncount[by]
	if res != nil {
		done = func() {
			res.release()
			h.uncount[by]()
		}
	}
	err := body.Attach(st, done)
	if err != nil {
		body.Close(broker.WriteFailed)
	}
	return err
}
