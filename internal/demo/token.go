package demo

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/strictjson"
)

const (
	// tokenLife is long enough to show the page to people all day.
	tokenLife = 12 * time.Hour

	// maxTokenRequest has room for the longest user id, however it is escaped.
	maxTokenRequest = 8 << 10
)

// tokenHandler gives the visitor a name: it responds with a subscriber token for all
// topics.
type tokenHandler struct{ cfg Config }

func (h *tokenHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxTokenRequest)

	user, status, err := requestedUser(r)
	if invalid, ok := errors.AsType[*broker.InvalidError](broker.ValidUserID(user)); ok && err == nil {
		status, err = http.StatusBadRequest, fmt.Errorf("user %s", invalid.Reason)
	}

	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}

	token, _, err := h.cfg.Tokens.Mint(user, []string{">"}, tokenLife)
	if err != nil {
		http.Error(w, "the token could not be signed", http.StatusInternalServerError)
		return
	}

	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, token) // an error means that the visitor has left
}

// requestedUser reads the name from a form or from JSON. Along with an error, it
// returns the matching status.
func requestedUser(r *http.Request) (user string, status int, err error) {
	contentType := r.Header.Get("Content-Type")

	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		media = ""
	}

	switch media {
	case "application/x-www-form-urlencoded":
		if err := r.ParseForm(); err != nil {
			return "", bodyStatus(err), fmt.Errorf("invalid form: %w", err)
		}

		if user, err = userInForm(r.PostForm); err != nil {
			return "", http.StatusBadRequest, err
		}

		return user, 0, nil
	case "application/json":
		if user, err = userInJSON(r.Body); err != nil {
			return "", bodyStatus(err), fmt.Errorf("invalid JSON: %w", err)
		}

		return user, 0, nil
	default:
		return "", http.StatusUnsupportedMediaType, fmt.Errorf("invalid Content-Type %q; want application/json or application/x-www-form-urlencoded", contentType)
	}
}

// userInForm returns the user in a form that has no other fields.
func userInForm(form url.Values) (string, error) {
	for _, name := range slices.Sorted(maps.Keys(form)) {
		if name != "user" {
			return "", fmt.Errorf("unknown form field %.80q; want user", name)
		}
	}

	if n := len(form["user"]); n > 1 {
		return "", fmt.Errorf("user is given %d times in the form; want it once", n)
	}

	return form.Get("user"), nil
}

func userInJSON(body io.Reader) (user string, err error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return "", err
	}

	object, err := strictjson.Schema{Members: []string{"user"}, Closed: true}.Read(data)
	if err != nil {
		return "", err
	}

	err = object.Decode("user", &user)

	return user, err
}

// bodyStatus returns the status for an error from reading a request's body.
func bodyStatus(err error) int {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge
	}

	return http.StatusBadRequest
}
