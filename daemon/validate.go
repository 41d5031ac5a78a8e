package daemon

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/listen"
	"github.com/peald/peald/ssehttp"
)

// MaxShards is the maximum value of broker.shards.
const MaxShards = 1024

const (
	minHeartbeat  = time.Second
	minMaxAge     = time.Second
	minRetry      = time.Millisecond // the unit of the retry field in an event stream
	minQueueBytes = 1 << 10
	minHistory    = 1 << 10 // bytes
	// maxRetainBytes is limited because nodes save all retained values at once.
	maxRetainBytes = 1 << 30
	minIdempotent  = time.Second
)

// Validate returns an error if a daemon can't run with c. The error is a
// [*SettingError] for the first invalid setting. Like [Run], Validate ignores line
// breaks at the end of secrets.
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
		c.checkRetain,
		c.checkTopics,
		c.checkHooks,
		c.checkSources,
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
			return &SettingError{s.Key, strconv.Quote(given), s.Accepts()}
		}
	}
	return nil
}

func (c Config) checkListeners() *SettingError {
	const hostPort = `HOST:PORT such as "127.0.0.1:9090" or ":8080"; port 0 selects a free port`
	taken := map[string]string{}

	for _, listener := range []struct{ section, addr, accepted string }{
		{"sse", c.SSE.Addr, hostPort},
		{"grpc", c.GRPC.Addr, hostPort + ", or unix:PATH"},
		{"rest", c.REST.Addr, hostPort + ", or unix:PATH"},
	} {
		key, at := listener.section+".addr", listener.addr
		path, isFile, pathErr := listen.SocketPath(at)
		_, port, err := net.SplitHostPort(at)
		n, atoiErr := strconv.Atoi(port)

		switch {
		case isFile && key != "sse.addr" && pathErr != nil:
			return &SettingError{key, fmt.Sprintf("%q (%v)", at, pathErr), fmt.Sprintf(`unix:PATH of a file such as "unix:/run/peald.sock", with at most %d bytes`, listen.MaxSocketPath)}
		case isFile && key != "sse.addr":
			at = path
		case err != nil || atoiErr != nil || n < 0 || n > maxPort:
			return &SettingError{key, strconv.Quote(at), listener.accepted}
		}

		if other, ok := taken[at]; ok && (isFile || n != 0) {
			return &SettingError{key, strconv.Quote(listener.addr) + ", which is also " + other, "a different address for each listener"}
		}
		taken[at] = key
	}

	if c.SSE.ReusePort && !listen.CanReusePort {
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
		return &SettingError{"sse.path", strconv.Quote(c.SSE.Path), `a path that begins with "/", without a query, escapes or spaces`}
	}

	if c.SSE.Client && c.SSE.Path == ssehttp.ModulePath {
		return &SettingError{"sse.path", strconv.Quote(c.SSE.Path) + " with sse.client", "another path, since the JavaScript client is there, or sse.client=false"}
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

	if age := c.SSE.MaxAge; age != 0 && (age < minMaxAge || age > broker.MaxStreamAge) {
		return &SettingError{"sse.max_age", age.String(), fmt.Sprintf("%v to %.0fh, or 0s for no limit", minMaxAge, broker.MaxStreamAge.Hours())}
	}

	for _, origin := range c.SSE.AllowedOrigins {
		if _, err := ssehttp.ASCIIOrigin(origin); err != nil || !isOrigin(origin) && !isOriginPattern(origin) {
			return &SettingError{"sse.allowed_origins", strconv.Quote(origin), `origins as browsers send them, such as "https://example.com" or "http://localhost:3000", "https://*.example.com", or "*"`}
		}
	}

	for _, name := range c.SSE.AllowedHeaders {
		if !httpguts.ValidHeaderFieldName(name) || name == "*" {
			return &SettingError{"sse.allowed_headers", strconv.Quote(name), "names of headers, but not *"}
		}
	}

	if c.SSE.MaxConnections < 0 {
		return &SettingError{"sse.max_connections", strconv.Itoa(c.SSE.MaxConnections), "a number of streams, or 0 for as many as the file descriptor limit allows"}
	}

	return nil
}

func (c Config) checkCertificates() *SettingError {
	for _, server := range []struct{ section, cert, key string }{
		{"sse.tls.", c.SSE.TLS.CertFile, c.SSE.TLS.KeyFile},
		{"grpc.tls.", c.GRPC.TLS.CertFile, c.GRPC.TLS.KeyFile},
	} {
		if server.cert != "" && server.key == "" {
			return &SettingError{server.section + "key_file", "nothing, although " + server.section + "cert_file is set", "both or neither"}
		}
		if server.cert == "" && server.key != "" {
			return &SettingError{server.section + "cert_file", "nothing, although " + server.section + "key_file is set", "both or neither"}
		}
	}
	if c.GRPC.TLS.ClientCAFile != "" && c.GRPC.TLS.CertFile == "" {
		return &SettingError{"grpc.tls.client_ca_file", strconv.Quote(c.GRPC.TLS.ClientCAFile) + " without grpc.tls.cert_file", "a server certificate too"}
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
			return &SettingError{key, fmt.Sprintf("two tokens with the name %q", t.Name), "unique names"}
		}

		names[t.Name] = true
		if !isBearerToken(t.Token) {
			return &SettingError{key, fmt.Sprintf("token %q with a value that can't be sent in an Authorization header", t.Name), "letters, digits and any of -._~+/, then any number of ="}
		}

		if other, ok := tokens[t.Token]; ok {
			return &SettingError{key, fmt.Sprintf("the same token for %q and %q", other, t.Name), "unique tokens"}
		}

		tokens[t.Token] = t.Name
		for _, scope := range t.Scopes {
			if !slices.Contains([]string{"publish", "read", "data", "tokens", "admin"}, scope) {
				return &SettingError{key, fmt.Sprintf("token %q with the scope %q", t.Name, scope), "publish, read, data, tokens or admin"}
			}
		}
	}

	return nil
}

// checkGuard rejects guarded metrics if there is no token that could read them.
func (c Config) checkGuard() *SettingError {
	if c.Control.GuardMetrics && len(c.Control.Tokens) == 0 {
		return &SettingError{"control.guard_metrics", "true with no control.tokens", "control.tokens, one of which /metrics then requires"}
	}
	return nil
}

// checkExposure rejects a control plane that strangers could reach. Anyone who can call
// it can publish to every browser and sign tokens for any user.
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

func (c Config) checkBroker() *SettingError {
	if c.Broker.Shards < 0 || c.Broker.Shards > MaxShards {
		return &SettingError{"broker.shards", strconv.Itoa(c.Broker.Shards), fmt.Sprintf("1 to %d, or 0 for one per CPU", MaxShards)}
	}
	if c.Broker.QueueBytes < minQueueBytes {
		return &SettingError{"broker.queue_bytes", c.Broker.QueueBytes.String(), "at least " + Bytes(minQueueBytes).String()}
	}
	if c.Broker.QueueBytes > broker.MaxQueueBytes {
		return &SettingError{"broker.queue_bytes", c.Broker.QueueBytes.String(), "at most " + Bytes(broker.MaxQueueBytes).String()}
	}
	return nil
}

func (c Config) checkRetain() *SettingError {
	switch r := c.Retain; {
	case r.MaxEvents < 0:
		return &SettingError{"retain.max_events", strconv.Itoa(r.MaxEvents), "a number of values, or 0 to allow none"}
	case r.MaxBytes < minHistory || r.MaxBytes > maxRetainBytes:
		return &SettingError{"retain.max_bytes", r.MaxBytes.String(), Bytes(minHistory).String() + " to " + Bytes(maxRetainBytes).String()}
	}
	return nil
}

func (c Config) checkHistory() *SettingError {
	if c.History.MaxEvents < 0 {
		return &SettingError{"history.max_events", strconv.Itoa(c.History.MaxEvents), "a number of events, or 0 to disable the history"}
	}
	if c.History.MaxBytes < minHistory {
		return &SettingError{"history.max_bytes", c.History.MaxBytes.String(), "at least " + Bytes(minHistory).String()}
	}
	if c.History.MaxAge < 0 {
		return &SettingError{"history.max_age", c.History.MaxAge.String(), "a duration, or 0 for no limit"}
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
