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

// identify authenticates a request.
func (rules *rules) identify(r *http.Request, query url.Values, client netip.Addr, token string) (auth.Identity, *rejection) {
	switch {
	case rules.cfg.Application != nil:
		who, err := rules.cfg.Application.Authorize(r, query, client)
		if denied, ok := errors.AsType[*auth.DeniedError](err); ok {
			return auth.Identity{}, reject(Denied, denied.Status, "%v", denied)
		}

		if invalid, ok := errors.AsType[*auth.RequestError](err); ok {
			return auth.Identity{}, reject(BadRequest, http.StatusBadRequest, "%v", invalid)
		}

		if err != nil {
			return auth.Identity{}, askToRetry(Unavailable)
		}

		if who.User == "" && !rules.cfg.Anonymous {
			return auth.Identity{}, reject(BadToken, http.StatusUnauthorized, "the application did not identify a user")
		}

		return who, nil
	case token == "" && !rules.cfg.Anonymous:
		return auth.Identity{}, reject(BadToken, http.StatusUnauthorized, "a token is required; send it in %s", rules.tokenSources())
	case token == "":
		return auth.Identity{Topics: rules.cfg.AnonymousTopics}, nil
	case rules.verifier == nil:
		return auth.Identity{}, reject(BadToken, http.StatusUnauthorized, "this daemon has no key to verify tokens")
	}

	who, err := rules.verifier.Verify(token)
	if errors.Is(err, auth.ErrUnavailable) {
		return who, askToRetry(Unavailable)
	}

	if err != nil {
		return who, reject(BadToken, http.StatusUnauthorized, "token rejected: %v", err)
	}

	return who, nil
}

// tokenSources lists where a request may carry its token.
func (rules *rules) tokenSources() string {
	sources := []string{"the Authorization: Bearer header"}
	if rules.cfg.Cookie != "" {
		sources = append(sources, "the cookie "+rules.cfg.Cookie)
	}
	if rules.cfg.QueryToken {
		sources = append(sources, "the query parameter access_token")
	}
	return strings.Join(sources, " or ")
}

// hasAmbientCredentials reports whether a request has credentials that browsers add on
// their own for any page: cookies and stored passwords. A bearer token, in contrast, is
// sent only by a page that has it.
func hasAmbientCredentials(header http.Header) bool {
	return len(header["Cookie"]) > 0 || slices.ContainsFunc(header["Authorization"], func(value string) bool {
		scheme, _, _ := strings.Cut(value, " ")
		return !strings.EqualFold(scheme, "Bearer")
	})
}

// token returns the request's token from the Authorization header, the cookie or the
// query; empty for none. If several of them have a token, it must be the same one.
func (rules *rules) token(r *http.Request, query url.Values) (string, *rejection) {
	if rules.cfg.Application != nil {
		return "", nil
	}

	var found string
	add := func(token string) *rejection {
		if found != "" && token != found {
			return reject(BadToken, http.StatusBadRequest, "the request has two different tokens; want one")
		}

		found = token
		return nil
	}

	for _, value := range r.Header.Values("Authorization") {
		scheme, token, _ := strings.Cut(value, " ")
		token = strings.TrimSpace(token)
		if !strings.EqualFold(scheme, "Bearer") || token == "" {
			return "", reject(BadToken, http.StatusUnauthorized, "invalid Authorization header; want Bearer TOKEN")
		}

		if rej := add(token); rej != nil {
			return "", rej
		}
	}

	for name, value := range auth.Cookies(r.Header) {
		if rules.cfg.Cookie == "" || name != rules.cfg.Cookie || value == "" {
			continue // applications log users out by emptying the cookie
		}

		if rej := add(value); rej != nil {
			return "", rej
		}
	}

	if len(query["access_token"]) > 0 && !rules.cfg.QueryToken {
		return "", reject(BadToken, http.StatusUnauthorized, "the query parameter access_token is disabled; send the token in %s", rules.tokenSources())
	}

	for _, token := range query["access_token"] {
		if token == "" {
			return "", reject(BadToken, http.StatusUnauthorized, "the query parameter access_token is empty")
		}

		if rej := add(token); rej != nil {
			return "", rej
		}
	}

	return found, nil
}
