package rest

import (
	"fmt"
	"net"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control/apierror"
)

// CheckHost rejects a request unless its host is localhost or an IP address. An
// attacker can make any other name resolve to this address, and a page served under
// that name would then have the same origin.
func CheckHost(r *http.Request) error {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}

	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host) != nil {
		return nil
	}

	return apierror.New(codes.PermissionDenied, apierror.ReasonForeignHost, fmt.Sprintf(
		"host %.80q is not accepted; without control.tokens or control.insecure, only localhost and IP addresses are", host))
}

// CheckSite rejects a request that a browser sends on behalf of a page from another
// origin. The page couldn't read the response, but handling the request costs
// resources.
func CheckSite(r *http.Request) error {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return nil
	}

	return foreignOrigin()
}

func foreignOrigin() error {
	return apierror.New(codes.PermissionDenied, apierror.ReasonForeignOrigin,
		"cross-origin request from a web page; only pages from the same origin may call the control plane")
}
