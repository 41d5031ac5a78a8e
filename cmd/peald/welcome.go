package main

import (
	"fmt"
	"io"

	"github.com/peald/peald/daemon"
)

// welcome tells whoever started the demo where to look and what to try.
// Nobody needs to read it: the daemon serves all the same.
func welcome(w io.Writer, cfg daemon.Config, bound daemon.Addresses) {
	scheme, trust, caller := "http", "", ""
	if cfg.SSE.TLS.CertFile != "" {
		scheme, trust = "https", "--cacert "+cfg.SSE.TLS.CertFile+" "
	}
	if len(cfg.Control.Tokens) > 0 {
		caller = "-H 'Authorization: Bearer TOKEN' "
	}

	named, asked := "", ""
	if !cfg.Auth.Anonymous {
		named = "-H 'Authorization: Bearer SUBSCRIBER' "
		asked = "\n\nThe stream wants a subscriber token, which this makes:\n\n  curl " + caller + `-d '{"userId": "alice"}' ` + daemon.CurlTarget(bound.REST) + "/v1/tokens"
	}

	browsers, rest := scheme+"://"+daemon.Reachable(bound.SSE), daemon.CurlTarget(bound.REST)
	_, _ = fmt.Fprintf(w, `
peald is running, with made-up events.

  the page      %[1]s/
  the console   %[3]s/
  the stream    %[1]s%[2]s
  control       %[3]s/v1/ (REST), %[4]s (gRPC)

Open the page, or in another terminal a stream:

  curl -N %[5]s%[7]s%[1]s%[2]s%[8]s

and from a third one tell everybody, or alice alone, whose name you can pick on the page:

  curl %[6]s-d '{"data": "Hello, everybody"}' %[3]s/v1/broadcast
  curl %[6]s-d '{"data": "Hello, alice"}' %[3]s/v1/users/alice/messages

Ctrl-C ends it.

`, browsers, cfg.SSE.Path, rest, daemon.Reachable(bound.GRPC), trust, caller, named, asked)
}
