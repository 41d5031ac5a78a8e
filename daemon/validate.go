package daemon

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/peald/peald/ssehttp"
)

// SettingError says which setting cannot be used, and why. Its text is one line
// and holds no secret.
type SettingError struct {
	Key      string
	Given    string // what was given, in words
	Accepted string // what is accepted, in words
}

// Error names the key, what was given and what is accepted.
func (e *SettingError) Error() string {
	return fmt.Sprintf("%s: given %s, accepted: %s", e.Key, e.Given, e.Accepted)
}

// MaxShards is the most that broker.shards can be.
const MaxShards = 1024

const (
	minHeartbeat  = time.Second
	minRetry      = time.Millisecond // retry: counts in milliseconds
	minQueueBytes = 1 << 10
	minLogBytes   = 1 << 10
	minIdempotent = time.Second
	minSecret     = 32 // RFC 7518 §3.2: a key as long as the hash, for HS256
	maxPort       = 1<<16 - 1
)

// Validate says whether a daemon can run on c. Its error is a [*SettingError]
// about the first setting that it cannot run on. Line breaks at the end of
// secrets are ignored, as [Run] does.
func (c Config) Validate() error {
	c, _ = c.trimSecrets()
	for _, check := range []func() *SettingError{
		c.checkChoices,
		c.checkListeners,
		c.checkSSE,
		c.checkLimits,
		c.checkCertificates,
		c.checkTokens,
		c.checkExposure,
		c.checkGuard,
		c.checkAuth,
		c.checkBroker,
		c.checkHistory,
		c.checkCluster,
		c.checkProcess,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) checkChoices() *SettingError {
	for _, s := range c.Settings() {
		if given, ok := s.Value.(string); ok && len(s.Choices) > 0 && !slices.Contains(s.Choices, given) {
			return &SettingError{s.Key, strconv.Quote(given), strings.Join(s.Choices, ", ")}
		}
	}
	return nil
}

func (c Config) checkListeners() *SettingError {
	const hostPort = `HOST:PORT such as "127.0.0.1:9090" or ":8080", where port 0 is any free one`
	taken := map[string]string{}
	for _, listener := range []struct{ section, addr, accepted string }{
		{"sse", c.SSE.Addr, hostPort},
		{"grpc", c.GRPC.Addr, hostPort + ", or unix:PATH"},
		{"rest", c.REST.Addr, hostPort + ", or unix:PATH"},
	} {
		key, at := listener.section+".addr", listener.addr
		path, wrong, isFile := socketPath(at)
		_, port, err := net.SplitHostPort(at)
		n, atoiErr := strconv.Atoi(port)
		switch {
		case isFile && key != "sse.addr" && wrong != "":
			return &SettingError{key, strconv.Quote(at) + ", " + wrong, fmt.Sprintf(`unix:PATH of a file such as "unix:/run/peald.sock", in at most %d bytes`, maxSocketPath)}
		case isFile && key != "sse.addr":
			at = path
		case err != nil || atoiErr != nil || n < 0 || n > maxPort:
			return &SettingError{key, strconv.Quote(at), listener.accepted}
		}
		if other, ok := taken[at]; ok && (isFile || n != 0) {
			return &SettingError{key, strconv.Quote(listener.addr) + ", which is also " + other, "an address of its own"}
		}
		taken[at] = key
	}
	if c.SSE.ReusePort && !canReusePort {
		return &SettingError{"sse.reuse_port", "true", "false on this system"}
	}
	for _, file := range []struct {
		key  string
		mode FileMode
	}{{"grpc.socket_mode", c.GRPC.SocketMode}, {"rest.socket_mode", c.REST.SocketMode}} {
		if file.mode&0o200 == 0 || file.mode > 0o777 {
			return &SettingError{file.key, file.mode.String(), "permissions that let the file's owner write, such as 0660 or 0600"}
		}
	}
	return nil
}

func (c Config) checkSSE() *SettingError {
	if !strings.HasPrefix(c.SSE.Path, "/") || strings.ContainsFunc(c.SSE.Path, notInPath) {
		return &SettingError{"sse.path", strconv.Quote(c.SSE.Path), `a path that begins with "/", without query, escapes or spaces`}
	}
	if c.SSE.Heartbeat < minHeartbeat {
		return atLeast("sse.heartbeat", c.SSE.Heartbeat, minHeartbeat)
	}
	if c.SSE.Retry < minRetry {
		return atLeast("sse.retry", c.SSE.Retry, minRetry)
	}
	if c.SSE.WriteTimeout <= 0 {
		return moreThanZero("sse.write_timeout", c.SSE.WriteTimeout)
	}
	for _, origin := range c.SSE.AllowedOrigins {
		if _, err := ssehttp.ASCIIOrigin(origin); err != nil || !isOrigin(origin) && !isOriginPattern(origin) {
			return &SettingError{"sse.allowed_origins", strconv.Quote(origin), `origins as browsers send them, such as "https://example.com" or "http://localhost:3000", "https://*.example.com", or "*"`}
		}
	}
	for _, name := range c.SSE.AllowedHeaders {
		if !httpguts.ValidHeaderFieldName(name) || name == "*" {
			return &SettingError{"sse.allowed_headers", strconv.Quote(name), "names of headers"}
		}
	}
	if c.SSE.MaxConnections < 0 {
		return &SettingError{"sse.max_connections", strconv.Itoa(c.SSE.MaxConnections), "a number of streams, or 0 for what the limit of file descriptors allows"}
	}
	return nil
}

func notInPath(r rune) bool {
	return r <= ' ' || r == 0x7f || strings.ContainsRune("?#%{}", r)
}

// isOrigin says whether a browser could send s as Origin, letter for letter.
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

func (c Config) checkCertificates() *SettingError {
	for _, server := range []struct{ section, cert, key string }{
		{"sse.tls.", c.SSE.TLS.CertFile, c.SSE.TLS.KeyFile},
		{"grpc.tls.", c.GRPC.TLS.CertFile, c.GRPC.TLS.KeyFile},
	} {
		if server.cert != "" && server.key == "" {
			return &SettingError{server.section + "key_file", "nothing, but " + server.section + "cert_file", "both, or neither"}
		}
		if server.cert == "" && server.key != "" {
			return &SettingError{server.section + "cert_file", "nothing, but " + server.section + "key_file", "both, or neither"}
		}
	}
	if c.GRPC.TLS.ClientCAFile != "" && c.GRPC.TLS.CertFile == "" {
		return &SettingError{"grpc.tls.client_ca_file", strconv.Quote(c.GRPC.TLS.ClientCAFile) + " without grpc.tls.cert_file", "client certificates only where the server has one too"}
	}
	return nil
}

func (c Config) checkTokens() *SettingError {
	const key = "control.tokens"
	names, tokens := map[string]bool{}, map[string]string{}
	for i, t := range c.Control.Tokens {
		if t.Name == "" || strings.ContainsFunc(t.Name, notInName) {
			return &SettingError{fmt.Sprintf("%s[%d].name", key, i), strconv.Quote(t.Name), "a name of letters, digits, '-', '_' and '.'"}
		}
		if names[t.Name] {
			return &SettingError{key, fmt.Sprintf("two tokens with the name %q", t.Name), "each name once"}
		}
		names[t.Name] = true
		if !isBearerToken(t.Token) {
			return &SettingError{key, fmt.Sprintf("token %q with a value that no Authorization header can carry", t.Name), "letters, digits and any of -._~+/, then any number of ="}
		}
		if other, ok := tokens[t.Token]; ok {
			return &SettingError{key, fmt.Sprintf("the same token for %q and %q", other, t.Name), "each token once"}
		}
		tokens[t.Token] = t.Name
		for _, scope := range t.Scopes {
			if !slices.Contains([]string{"publish", "read", "tokens", "admin"}, scope) {
				return &SettingError{key, fmt.Sprintf("token %q with the scope %q", t.Name, scope), "publish, read, tokens, admin"}
			}
		}
	}
	return nil
}

func notInName(r rune) bool {
	return !isAlphanumeric(r) && !strings.ContainsRune("-_.", r)
}

// isBearerToken says whether s is a b64token of RFC 6750 §2.1, which no list or
// colon in a variable can be mistaken for.
func isBearerToken(s string) bool {
	s = strings.TrimRight(s, "=")
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !isAlphanumeric(r) && !strings.ContainsRune("-._~+/", r)
	})
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// checkGuard refuses to guard what nobody would have a token for.
func (c Config) checkGuard() *SettingError {
	if c.Control.GuardMetrics && len(c.Control.Tokens) == 0 {
		return &SettingError{"control.guard_metrics", "true with no control.tokens", "only together with control.tokens, one of which is then asked for"}
	}
	return nil
}

// checkExposure refuses a control plane that strangers could call: whoever
// reaches it can speak to every browser and sign tokens for any user.
func (c Config) checkExposure() *SettingError {
	if c.Control.Insecure || len(c.Control.Tokens) > 0 {
		return nil
	}
	if !isLocal(c.GRPC.Addr) && c.GRPC.TLS.ClientCAFile == "" {
		return &SettingError{"grpc.addr", strconv.Quote(c.GRPC.Addr) + " with no control.tokens", "a loopback address or a socket file, or any with control.tokens, grpc.tls.client_ca_file or control.insecure"}
	}
	if !isLocal(c.REST.Addr) {
		return &SettingError{"rest.addr", strconv.Quote(c.REST.Addr) + " with no control.tokens", "a loopback address or a socket file, or any with control.tokens or control.insecure"}
	}
	return nil
}

// isLocal says whether a listener of the control plane on addr is reachable
// from this machine alone.
func isLocal(addr string) bool {
	_, _, isFile := socketPath(addr)
	return isFile || isLoopback(addr)
}

// isLoopback says whether a listener on addr is reachable from this machine
// alone. A name other than localhost could resolve to anything.
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
	cookie := http.Cookie{Name: s, Value: "x"} //nolint:gosec // it is sent to nobody
	return cookie.Valid() == nil
}

func (c Config) checkBroker() *SettingError {
	if c.Broker.Shards < 0 || c.Broker.Shards > MaxShards {
		return &SettingError{"broker.shards", strconv.Itoa(c.Broker.Shards), fmt.Sprintf("1 to %d, or 0 for one for each CPU", MaxShards)}
	}
	if c.Broker.QueueBytes < minQueueBytes {
		return &SettingError{"broker.queue_bytes", c.Broker.QueueBytes.String(), "at least " + Bytes(minQueueBytes).String()}
	}
	return nil
}

func (c Config) checkHistory() *SettingError {
	if c.History.MaxEvents < 0 {
		return &SettingError{"history.max_events", strconv.Itoa(c.History.MaxEvents), "a number of events, or 0 for no log"}
	}
	if c.History.MaxBytes < minLogBytes {
		return &SettingError{"history.max_bytes", c.History.MaxBytes.String(), "at least " + Bytes(minLogBytes).String()}
	}
	if c.History.MaxAge < 0 {
		return &SettingError{"history.max_age", c.History.MaxAge.String(), "a duration, or 0 for no bound"}
	}
	if c.History.IdempotencyWindow < minIdempotent {
		return atLeast("history.idempotency_window", c.History.IdempotencyWindow, minIdempotent)
	}
	return nil
}

func (c Config) checkProcess() *SettingError {
	if c.Drain.Timeout <= 0 {
		return moreThanZero("drain.timeout", c.Drain.Timeout)
	}
	return nil
}

func atLeast(key string, given, least time.Duration) *SettingError {
	return &SettingError{key, given.String(), "at least " + least.String()}
}

func moreThanZero(key string, given time.Duration) *SettingError {
	return &SettingError{key, given.String(), "a duration longer than 0s"}
}
