package ssehttp

import (
	"net/http"
	"net/netip"
	"net/url"

	"github.com/peald/peald/internal/broker"
)

// ClientOf returns the client address of a request from remote with the given
// values of a header.
func ClientOf(trusted []netip.Prefix, header, remote string, values ...string) netip.Addr {
	r := &http.Request{RemoteAddr: remote, Header: http.Header{header: values}}
	return clients{trusted, header}.addr(r)
}

// Allows reports whether an origin matches one of the allowed origins.
func Allows(origin string, allowed ...string) bool { return newOrigins(allowed).allows(origin) }

// AnonymousAccess returns the decision on the topics of streams without a token.
func AnonymousAccess(listed []string, topicRules []TopicRule) func(topic string) bool {
	return (&rules{cfg: Config{AnonymousTopics: listed, TopicRules: topicRules}}).allowsAnonymous
}

// StartOf returns the event id or the other start in a request.
func StartOf(header http.Header, query url.Values) (lastEventID string, earlier broker.Start, err error) {
	from, rej := startOf(header, query)
	if rej != nil {
		return "", broker.Start{}, rej
	}
	return from.lastEventID, from.earlier, nil
}

// NewPollAnswer returns the encoder for a poll over HTTP/1.1.
func NewPollAnswer() broker.Encoder {
	return &pollAnswer{fields: []byte("Content-Type: application/json\r\n\r\n")}
}
