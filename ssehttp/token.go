package ssehttp

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/peald/peald/internal/auth"
)

// identify tells who a request is from.
func (rules *rules) identify(r *http.Request, query url.Values, client netip.Addr, token string) (auth.Identity, *refusal) {
	switch {
	case rules.cfg.Application != nil:
		who, err := rules.cfg.Application.Authorize(r, query, client)
		if denied, ok := errors.AsType[*auth.DeniedError](err); ok {
			return auth.Identity{}, refuse(Denied, denied.Status, "%v", denied)
		}
		if unclear, ok := errors.AsType[*auth.QuestionError](err); ok {
			return auth.Identity{}, refuse(BadRequest, http.StatusBadRequest, "%v", unclear)
		}
		if err != nil {
			return auth.Identity{}, later(Unavailable)
		}
		if who.User == "" && !rules.cfg.Anonymous {
			return auth.Identity{}, refuse(BadToken, http.StatusUnauthorized, "the application knows no user for this connection")
		}
		return who, nil
	case token == "" && !rules.cfg.Anonymous:
		return auth.Identity{}, refuse(BadToken, http.StatusUnauthorized, "a token is needed: as %s", rules.accepted())
	case token == "":
		return auth.Identity{Topics: rules.cfg.AnonymousTopics}, nil
	case rules.verifier == nil:
		return auth.Identity{}, refuse(BadToken, http.StatusUnauthorized, "this daemon has no key to check tokens with")
	}
	who, err := rules.verifier.Verify(token)
	if errors.Is(err, auth.ErrUnavailable) {
		return who, later(Unavailable)
	}
	if err != nil {
		return who, refuse(BadToken, http.StatusUnauthorized, "the token is refused: %v", err)
	}
	return who, nil
}

// accepted says in words where a token may stand.
func (rules *rules) accepted() string {
	ways := []string{"Authorization: Bearer"}
	if rules.cfg.Cookie != "" {
		ways = append(ways, "cookie "+rules.cfg.Cookie)
	}
	if rules.cfg.QueryToken {
		ways = append(ways, "access_token in the query")
	}
	return strings.Join(ways, " or ")
}

// sentUnasked says whether a request has what browsers send by themselves,
// whichever page asks: cookies, and passwords that they know. A bearer's token
// is only ever sent by whoever has it.
func sentUnasked(header http.Header) bool {
	return len(header["Cookie"]) > 0 || slices.ContainsFunc(header["Authorization"], func(value string) bool {
		scheme, _, _ := strings.Cut(value, " ")
		return !strings.EqualFold(scheme, "Bearer")
	})
}

// token finds the request's token: in the Authorization header, the cookie or
// the query. The same token may stand in several of them.
func (rules *rules) token(r *http.Request, query url.Values) (string, *refusal) {
	if rules.cfg.Application != nil {
		return "", nil
	}
	var found string
	add := func(token string) *refusal {
		if found != "" && token != found {
			return refuse(BadToken, http.StatusBadRequest, "the request has two different tokens; one is accepted")
		}
		found = token
		return nil
	}
	for _, value := range r.Header.Values("Authorization") {
		scheme, token, _ := strings.Cut(value, " ")
		token = strings.TrimSpace(token)
		if !strings.EqualFold(scheme, "Bearer") || token == "" {
			return "", refuse(BadToken, http.StatusUnauthorized, "the Authorization header is not of the form: Bearer TOKEN")
		}
		if why := add(token); why != nil {
			return "", why
		}
	}
	for _, cookie := range r.CookiesNamed(rules.cfg.Cookie) {
		if cookie.Value == "" {
			continue // how applications log out
		}
		if why := add(cookie.Value); why != nil {
			return "", why
		}
	}
	if len(query["access_token"]) > 0 && !rules.cfg.QueryToken {
		return "", refuse(BadToken, http.StatusUnauthorized, "access_token in the query is switched off; a token is accepted as %s", rules.accepted())
	}
	for _, token := range query["access_token"] {
		if token == "" {
			return "", refuse(BadToken, http.StatusUnauthorized, "access_token in the query is empty")
		}
		if why := add(token); why != nil {
			return "", why
		}
	}
	return found, nil
}
