package main

import (
	"fmt"
	"io"

	"github.com/peald/peald/daemon"
)

// printWelcome prints the addresses of the demo and commands to try. It ignores
// write errors, which don't affect the daemon.
func printWelcome(w io.Writer, cfg daemon.Config, bound daemon.Addresses) {
	scheme, caCert, controlToken := "http", "", ""
	if cfg.SSE.TLS.CertFile != "" {
		scheme, caCert = "https", "--cacert "+cfg.SSE.TLS.CertFile+" "
	}
	if len(cfg.Control.Tokens) > 0 {
		controlToken = "-H 'Authorization: Bearer TOKEN' "
	}

	userToken, tokenHelp := "", ""
	if !cfg.Auth.Anonymous {
		userToken = "-H 'Authorization: Bearer SUBSCRIBER' "
		tokenHelp = "\n\nThe stream requires a subscriber token. To create one:\n\n  curl " + controlToken + `-d '{"userId": "alice"}' ` + daemon.CurlTarget(bound.REST) + "/v1/tokens"
	}

	browsers, rest := scheme+"://"+daemon.Reachable(bound.SSE), daemon.CurlTarget(bound.REST)
	_, _ = fmt.Fprintf(w, `
peald is running and publishes demo events.

  demo page       %[1]s/
  console         %[3]s/
  event stream    %[1]s%[2]s
  control plane   %[3]s/v1/ (REST), %[4]s (gRPC)

Open the demo page, or open a stream in another terminal:

  curl -N %[5]s%[7]s%[1]s%[2]s%[8]s

Then send a message to everyone, or to one user (pick the name alice on the page):

  curl %[6]s-d '{"data": "Hello, everyone"}' %[3]s/v1/broadcast
  curl %[6]s-d '{"data": "Hello, alice"}' %[3]s/v1/users/alice/messages

Press Ctrl-C to stop.

`, browsers, cfg.SSE.Path, rest, daemon.Reachable(bound.GRPC), caCert, controlToken, userToken, tokenHelp)
}
