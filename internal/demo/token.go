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
	// tokenLife outlasts a day of showing the page to people.
	tokenLife = 12 * time.Hour

	// maxTokenRequest is room for the longest user id, however escaped.
	maxTokenRequest = 8 << 10
)

// tokenHandler gives the visitor a name by a cookie that only streams see, or
// takes it away where the name is empty.
type tokenHandler struct{ cfg Config }

func (h *tokenHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxTokenRequest)
	user, status, err := requestedUser(r)
	if err == nil && user == "" && !h.cfg.Anonymous {
		status, err = http.StatusForbidden, errors.New("user is empty, and this daemon takes nobody without a name")
	}
	if invalid, ok := errors.AsType[*broker.InvalidError](broker.ValidUserID(user)); ok && err == nil && user != "" {
		status, err = http.StatusBadRequest, fmt.Errorf("user %s", invalid.Reason)
	}
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	//nolint:gosec // Secure where the page itself is, or its own daemon would not get the cookie
	cookie := &http.Cookie{
		Name:     h.cfg.Cookie,
		Path:     h.cfg.Events,
		MaxAge:   -1,
		HttpOnly: true,
		Secure:   r.TLS != nil,
		SameSite: http.SameSiteStrictMode,
	}
	if user != "" {
		token, _, err := h.cfg.Tokens.Mint(user, nil, tokenLife)
		if err != nil {
			http.Error(w, "no token could be signed", http.StatusInternalServerError)
			return
		}
		cookie.Value, cookie.MaxAge = token, int(tokenLife/time.Second)
	}
	w.Header().Set("Cache-Control", "no-store")
	http.SetCookie(w, cookie)
	w.WriteHeader(http.StatusNoContent)
}

// requestedUser reads the name from a form or from JSON. With an error comes
// the status that fits it.
func requestedUser(r *http.Request) (user string, status int, err error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		media = ""
	}
	switch media {
	case "application/x-www-form-urlencoded":
		if err := r.ParseForm(); err != nil {
			return "", badBody(err), fmt.Errorf("the form cannot be read: %w", err)
		}
		if user, err = userInForm(r.PostForm); err != nil {
			return "", http.StatusBadRequest, err
		}
		return user, 0, nil
	case "application/json":
		if user, err = userInJSON(r.Body); err != nil {
			return "", badBody(err), fmt.Errorf("the JSON cannot be read: %w", err)
		}
		return user, 0, nil
	default:
		return "", http.StatusUnsupportedMediaType, fmt.Errorf("the Content-Type is %q; application/json and application/x-www-form-urlencoded are accepted", r.Header.Get("Content-Type"))
	}
}

// userInForm returns the user that a form names, which has nothing else.
func userInForm(form url.Values) (string, error) {
	for _, name := range slices.Sorted(maps.Keys(form)) {
		if name != "user" {
			return "", fmt.Errorf("the form has %.80q; want user, and nothing else", name)
		}
	}
	if n := len(form["user"]); n > 1 {
		return "", fmt.Errorf("the form has user %d times; want it once", n)
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

func badBody(err error) int {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}
