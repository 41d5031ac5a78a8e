package daemon

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/peald/peald/internal/listen"
)

const maxPort = 1<<16 - 1

func notInPath(r rune) bool {
	return r <= ' ' || r == 0x7f || strings.ContainsRune("?#%{}", r)
}

// isOrigin reports whether a browser could send exactly s as the Origin header.
func isOrigin(s string) bool {
	if s == "*" || s == "null" {
		return true
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || strings.Contains(u.Host, "*") || s != strings.ToLower(u.Scheme+"://"+u.Host) {
		return false
	}
	defaultPort := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	return u.Port() == "" || u.Port() != defaultPort
}

func notInName(r rune) bool {
	return !isAlphanumeric(r) && !strings.ContainsRune("-_.", r)
}

// isBearerToken reports whether s is a b64token as defined in RFC 6750 §2.1. A b64token
// contains no commas or colons, which are separators in environment variables.
func isBearerToken(s string) bool {
	s = strings.TrimRight(s, "=")
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !isAlphanumeric(r) && !strings.ContainsRune("-._~+/", r)
	})
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// isLocal reports whether a listener of the control plane on addr is reachable only
// from this machine.
func isLocal(addr string) bool {
	_, isFile, _ := listen.SocketPath(addr)
	return isFile || isLoopback(addr)
}

// isLoopback reports whether a TCP listener on addr is reachable only from this
// machine. A name other than localhost could resolve to any address.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func isCookieName(s string) bool {
	cookie := http.Cookie{Name: s, Value: "x"} //nolint:gosec // It is never sent.
	return cookie.Valid() == nil
}

func atLeast(key string, given, least time.Duration) *SettingError {
	return &SettingError{key, given.String(), "at least " + least.String()}
}

func moreThanZero(key string, given time.Duration) *SettingError {
	return &SettingError{key, given.String(), "a duration longer than 0s"}
}

func isHTTP(location string) bool {
	u, err := url.Parse(location)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// isOriginPattern reports whether s is an origin with a wildcard in place of its host's
// first labels.
func isOriginPattern(s string) bool {
	scheme, domain, ok := strings.Cut(s, "://*.")
	return ok && isOrigin(scheme+"://"+domain) && !strings.Contains(domain, "*")
}

// prefixes parses the networks in list. Each is a CIDR prefix or a single address.
func prefixes(list []string) ([]netip.Prefix, *SettingError) {
	found := make([]netip.Prefix, 0, len(list))
	for _, text := range list {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, addrErr := netip.ParseAddr(text)
			if addrErr != nil || addr.Zone() != "" {
				return nil, &SettingError{"sse.trusted_proxies", strconv.Quote(text), `networks such as "10.0.0.0/8" or "2001:db8::/32", and addresses`}
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}

		if prefix.Addr().Is4In6() {
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), max(prefix.Bits()-96, 0))
		}
		found = append(found, prefix.Masked())
	}
	return found, nil
}

func isNATS(scheme string) bool {
	return scheme == "nats" || scheme == "tls" || scheme == "ws" || scheme == "wss"
}

// hostPort splits HOST:PORT and reports whether addr has that form.
func hostPort(addr string) (host string, port int, ok bool) {
	host, text, err := net.SplitHostPort(addr)
	port, atoiErr := strconv.Atoi(text)
	return host, port, err == nil && atoiErr == nil && port >= 0 && port <= maxPort
}
