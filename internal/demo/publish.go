package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/strictjson"
)

// Publisher publishes events.
type Publisher interface {
	Publish(ctx context.Context, m broker.Message) (broker.Receipt, error)
}

// maxPublishRequest bounds a visitor's message. It is far below the control plane's
// limit, because visitors type their messages by hand.
const maxPublishRequest = 16 << 10

// publishHandler publishes a visitor's message: to the user or the topic that the
// request names, or to everyone if it names neither. If the control plane requires
// a token, publishHandler rejects all messages, since it would bypass the token.
type publishHandler struct{ cfg Config }

func (h *publishHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.cfg.ControlToken {
		http.Error(w, "publishing requires a control token, which this page doesn't have; use the console", http.StatusForbidden)
		return
	}

	r.Body = http.MaxBytesReader(w, r.Body, maxPublishRequest)

	m, status, err := requestedMessage(r)
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}

	receipt, err := h.cfg.Publisher.Publish(r.Context(), m)
	if err != nil {
		http.Error(w, publishError(err), publishStatus(err))
		return
	}

	reply, err := json.Marshal(struct {
		ID         string `json:"id"`
		Recipients int    `json:"recipients"`
	}{receipt.ID, receipt.Recipients})
	if err != nil {
		http.Error(w, publishError(err), publishStatus(err))
		return
	}

	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(reply)
}

// requestedMessage reads a message from JSON. Along with an error, it returns the
// matching status.
func requestedMessage(r *http.Request) (m broker.Message, status int, err error) {
	contentType := r.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(contentType); err != nil || media != "application/json" {
		return m, http.StatusUnsupportedMediaType, fmt.Errorf("invalid Content-Type %q; want application/json", contentType)
	}

	data, err := io.ReadAll(r.Body)
	if err != nil {
		return m, bodyStatus(err), fmt.Errorf("reading the request: %w", err)
	}

	object, err := strictjson.Schema{Members: []string{"user", "topic", "data"}, Closed: true}.Read(data)
	if err != nil {
		return m, http.StatusBadRequest, fmt.Errorf("invalid JSON: %w", err)
	}

	var user, topic string

	err = errors.Join(object.Decode("user", &user), object.Decode("topic", &topic), object.Decode("data", &m.Data))

	switch {
	case err != nil:
		return m, http.StatusBadRequest, fmt.Errorf("invalid JSON: %w", err)
	case object.Has("user") && object.Has("topic"):
		return m, http.StatusBadRequest, errors.New("both user and topic are set; want one of them")
	case object.Has("user"):
		m.Audience = broker.ToUser(user)
	case object.Has("topic"):
		m.Audience = broker.ToTopic(topic)
	default:
		m.Audience = broker.Everyone()
	}

	return m, 0, nil
}

// publishStatus returns the status for an error from Publish.
func publishStatus(err error) int {
	if _, ok := errors.AsType[*broker.InvalidError](err); ok {
		return http.StatusBadRequest
	}

	if _, ok := errors.AsType[*broker.UnavailableError](err); ok || errors.Is(err, broker.ErrClosed) {
		return http.StatusServiceUnavailable
	}

	return http.StatusInternalServerError
}

// publishError returns the text for an error from Publish. It names internals only
// if the visitor can do something about them.
func publishError(err error) string {
	if publishStatus(err) == http.StatusBadRequest {
		return err.Error()
	}

	return "the event was not published; try again"
}
