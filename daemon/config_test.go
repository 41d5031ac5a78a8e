package daemon_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
)

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	if err := daemon.Defaults().Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestSettingsNameEveryKey(t *testing.T) {
	t.Parallel()
	var keys []string
	for _, s := range daemon.Defaults().Settings() {
		keys = append(keys, s.Key)
	}
	want := strings.Fields(`
		sse.addr sse.path sse.heartbeat sse.retry sse.write_timeout sse.allowed_origins sse.allowed_headers sse.max_connections
		sse.max_connections_per_user sse.max_connections_per_ip sse.max_connects_per_second
		sse.trusted_proxies sse.proxy_header sse.proxy_protocol sse.engine sse.reuse_port
		sse.tls.cert_file sse.tls.key_file
		grpc.addr grpc.socket_mode grpc.tls.cert_file grpc.tls.key_file grpc.tls.client_ca_file
		rest.addr rest.socket_mode
		control.tokens control.rate_limit control.guard_metrics control.insecure
		auth.anonymous auth.anonymous_topics auth.cookie auth.query_token
		auth.callback_url auth.callback_headers auth.callback_timeout auth.callback_cache auth.callback_concurrency
		auth.http_proxy
		auth.jwt.hmac_secret auth.jwt.public_key_file auth.jwt.jwks_url auth.jwt.issuer auth.jwt.audience
		broker.shards broker.queue_bytes broker.slow_consumer
		history.max_events history.max_bytes history.max_age history.idempotency_window
		cluster.mode cluster.name cluster.addr cluster.advertise cluster.peers cluster.dir cluster.replicas cluster.sync cluster.secret
		cluster.tls.cert_file cluster.tls.key_file cluster.tls.ca_file
		cluster.url cluster.credentials_file
		log.level log.format
		drain.timeout
		debug.flight_recorder`)
	if !slices.Equal(keys, want) {
		t.Errorf("keys are\n%q, want\n%q", keys, want)
	}
}

const secret = "0123456789abcdef0123456789abcdef"

func TestValidate(t *testing.T) {
	t.Parallel()
	shop := daemon.Token{Name: "shop", Token: "c2VjcmV0", Scopes: []string{"publish", "read", "admin"}}
	for name, test := range map[string]struct {
		change func(*daemon.Config)
		key    string // of the error, "" for none
		says   string // what the error's text holds
	}{
		"address without port":    {func(c *daemon.Config) { c.SSE.Addr = "localhost" }, "sse.addr", `"localhost"`},
		"empty address":           {func(c *daemon.Config) { c.REST.Addr = "" }, "rest.addr", `given "", accepted: HOST:PORT`},
		"named port":              {func(c *daemon.Config) { c.GRPC.Addr = "127.0.0.1:http" }, "grpc.addr", "HOST:PORT"},
		"port out of range":       {func(c *daemon.Config) { c.GRPC.Addr = "127.0.0.1:65536" }, "grpc.addr", "HOST:PORT"},
		"a socket file":           {func(c *daemon.Config) { c.GRPC.Addr, c.REST.Addr = "unix:peald.sock", "unix:///run/rest.sock" }, "", ""},
		"one file for two":        {func(c *daemon.Config) { c.GRPC.Addr, c.REST.Addr = "unix:/run/s", "unix:///run/s" }, "rest.addr", "which is also grpc.addr"},
		"a file for browsers":     {func(c *daemon.Config) { c.SSE.Addr = "unix:/run/s" }, "sse.addr", `HOST:PORT such as "127.0.0.1:9090" or ":8080", where port 0 is any free one`},
		"no file":                 {func(c *daemon.Config) { c.GRPC.Addr = "unix:" }, "grpc.addr", "names no file"},
		"a folder":                {func(c *daemon.Config) { c.GRPC.Addr = "unix:/run/" }, "grpc.addr", "names no file"},
		"a file of a host":        {func(c *daemon.Config) { c.GRPC.Addr = "unix://run/s" }, "grpc.addr", "names a host"},
		"an abstract socket":      {func(c *daemon.Config) { c.GRPC.Addr = "unix:@peald" }, "grpc.addr", "no permissions"},
		"a long path":             {func(c *daemon.Config) { c.REST.Addr = "unix:/" + strings.Repeat("x", 200) }, "rest.addr", "201 bytes"},
		"nobody may write":        {func(c *daemon.Config) { c.GRPC.SocketMode = 0o440 }, "grpc.socket_mode", "given 0440"},
		"IPv6":                    {func(c *daemon.Config) { c.GRPC.Addr = "[::1]:9090" }, "", ""},
		"one address twice":       {func(c *daemon.Config) { c.REST.Addr = c.GRPC.Addr }, "rest.addr", "which is also grpc.addr"},
		"any free port twice":     {func(c *daemon.Config) { c.REST.Addr, c.GRPC.Addr = "127.0.0.1:0", "127.0.0.1:0" }, "", ""},
		"relative path":           {func(c *daemon.Config) { c.SSE.Path = "events" }, "sse.path", `"events"`},
		"path with query":         {func(c *daemon.Config) { c.SSE.Path = "/events?a=b" }, "sse.path", `"/events?a=b"`},
		"short heartbeat":         {func(c *daemon.Config) { c.SSE.Heartbeat = 999 * time.Millisecond }, "sse.heartbeat", "given 999ms, accepted: at least 1s"},
		"no retry":                {func(c *daemon.Config) { c.SSE.Retry = 0 }, "sse.retry", "given 0s"},
		"no write time-out":       {func(c *daemon.Config) { c.SSE.WriteTimeout = 0 }, "sse.write_timeout", "given 0s"},
		"negative write time-out": {func(c *daemon.Config) { c.SSE.WriteTimeout = -1 }, "sse.write_timeout", "given -1ns"},
		"origins":                 {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"https://a.example", "http://b.example:3000"} }, "", ""},
		"any origin":              {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"*"} }, "", ""},
		"origin without scheme":   {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"a.example"} }, "sse.allowed_origins", `"a.example"`},
		"origin with slash":       {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"https://a.example/"} }, "sse.allowed_origins", `"https://a.example/"`},
		"origin in capitals":      {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"https://A.example"} }, "sse.allowed_origins", "as browsers send"},
		"origin with usual port":  {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"https://a.example:443"} }, "sse.allowed_origins", "as browsers send"},
		"origins of a domain": {func(c *daemon.Config) {
			c.SSE.AllowedOrigins = []string{"https://*.example.com", "http://*.localhost:3000"}
		}, "", ""},
		"origins of all domains":  {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"https://*"} }, "sse.allowed_origins", `"https://*"`},
		"origins in between":      {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"https://a.*.example.com"} }, "sse.allowed_origins", "https://a.*"},
		"negative limit of users": {func(c *daemon.Config) { c.SSE.MaxConnectionsPerUser = -1 }, "sse.max_connections_per_user", "given -1"},
		"negative limit of IPs":   {func(c *daemon.Config) { c.SSE.MaxConnectionsPerIP = -1 }, "sse.max_connections_per_ip", "given -1"},
		"metrics for nobody":      {func(c *daemon.Config) { c.Control.GuardMetrics = true }, "control.guard_metrics", "together with control.tokens"},
		"negative rate of calls":  {func(c *daemon.Config) { c.Control.RateLimit = -1 }, "control.rate_limit", "given -1"},
		"negative rate":           {func(c *daemon.Config) { c.SSE.MaxConnectsPerSecond = -1 }, "sse.max_connects_per_second", "given -1"},
		"proxies": {func(c *daemon.Config) {
			c.SSE.TrustedProxies = []string{"10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1"}
		}, "", ""},
		"proxies by name":           {func(c *daemon.Config) { c.SSE.TrustedProxies = []string{"proxy.internal"} }, "sse.trusted_proxies", `"proxy.internal"`},
		"header of no proxy":        {func(c *daemon.Config) { c.SSE.ProxyHeader = "X-Real-IP" }, "sse.proxy_header", "X-Forwarded-For, Forwarded"},
		"PROXY of nobody":           {func(c *daemon.Config) { c.SSE.ProxyProtocol = true }, "sse.proxy_protocol", "sse.trusted_proxies"},
		"public keys alone":         {func(c *daemon.Config) { c.Auth.JWT.PublicKeyFile, c.Auth.Anonymous = "k.pem", false }, "", ""},
		"key set alone":             {func(c *daemon.Config) { c.Auth.JWT.JWKSURL, c.Auth.JWT.Issuer = "https://id.example/jwks", "x" }, "", ""},
		"key set by FTP":            {func(c *daemon.Config) { c.Auth.JWT.JWKSURL = "ftp://id.example/jwks" }, "auth.jwt.jwks_url", `"ftp"`},
		"callback alone":            {func(c *daemon.Config) { c.Auth.CallbackURL, c.Auth.Anonymous = "http://127.0.0.1:8000/sse", false }, "", ""},
		"callback to nowhere":       {func(c *daemon.Config) { c.Auth.CallbackURL = "/sse" }, "auth.callback_url", "https://"},
		"callback beside a secret":  {func(c *daemon.Config) { c.Auth.CallbackURL, c.Auth.JWT.HMACSecret = "http://a.example", secret }, "auth.callback_url", "auth.jwt"},
		"callback without patience": {func(c *daemon.Config) { c.Auth.CallbackURL, c.Auth.CallbackTimeout = "http://a.example", 0 }, "auth.callback_timeout", "0s"},
		"callback with odd headers": {func(c *daemon.Config) {
			c.Auth.CallbackURL, c.Auth.CallbackHeaders = "http://a.example", []string{"a b"}
		}, "auth.callback_headers", `"a b"`},
		"callback for nobody":        {func(c *daemon.Config) { c.Auth.CallbackURL, c.Auth.CallbackConcurrency = "http://a.example", 0 }, "auth.callback_concurrency", "given 0"},
		"negative maximum":           {func(c *daemon.Config) { c.SSE.MaxConnections = -1 }, "sse.max_connections", "given -1"},
		"certificate without key":    {func(c *daemon.Config) { c.SSE.TLS.CertFile = "c.pem" }, "sse.tls.key_file", "both, or neither"},
		"key without certificate":    {func(c *daemon.Config) { c.GRPC.TLS.KeyFile = "k.pem" }, "grpc.tls.cert_file", "both, or neither"},
		"authorities without server": {func(c *daemon.Config) { c.GRPC.TLS.ClientCAFile = "ca.pem" }, "grpc.tls.client_ca_file", "without grpc.tls.cert_file"},
		"open gRPC":                  {func(c *daemon.Config) { c.GRPC.Addr = ":9090" }, "grpc.addr", `given ":9090" with no control.tokens`},
		"open REST":                  {func(c *daemon.Config) { c.REST.Addr = "192.0.2.1:9091" }, "rest.addr", "control.tokens or control.insecure"},
		"REST on a name":             {func(c *daemon.Config) { c.REST.Addr = "example.com:9091" }, "rest.addr", "control.insecure"},
		"REST on localhost":          {func(c *daemon.Config) { c.REST.Addr = "localhost:9091" }, "", ""},
		"open and insecure": {func(c *daemon.Config) {
			c.GRPC.Addr, c.REST.Addr, c.Control.Insecure = ":9090", ":9091", true
		}, "", ""},
		"open with tokens": {func(c *daemon.Config) {
			c.GRPC.Addr, c.REST.Addr, c.Control.Tokens = ":9090", ":9091", []daemon.Token{shop}
		}, "", ""},
		"open gRPC with client certificates": {func(c *daemon.Config) {
			c.GRPC.Addr, c.GRPC.TLS = ":9090", daemon.MutualTLS{CertFile: "c.pem", KeyFile: "k.pem", ClientCAFile: "ca.pem"}
		}, "", ""},
		"open gRPC with a mere certificate": {func(c *daemon.Config) {
			c.GRPC.Addr, c.GRPC.TLS = ":9090", daemon.MutualTLS{CertFile: "c.pem", KeyFile: "k.pem"}
		}, "grpc.addr", "client_ca_file"},
		"open REST with client certificates": {func(c *daemon.Config) {
			c.REST.Addr = ":9091"
			c.GRPC.TLS = daemon.MutualTLS{CertFile: "c.pem", KeyFile: "k.pem", ClientCAFile: "ca.pem"}
		}, "rest.addr", "control.tokens"},
		"token without name": {func(c *daemon.Config) { c.Control.Tokens = []daemon.Token{{Token: "x"}} }, "control.tokens[0].name", `given ""`},
		"empty token":        {func(c *daemon.Config) { c.Control.Tokens = []daemon.Token{{Name: "shop"}} }, "control.tokens", `token "shop"`},
		"token with spaces":  {func(c *daemon.Config) { c.Control.Tokens = []daemon.Token{{Name: "shop", Token: "a b"}} }, "control.tokens", `token "shop"`},
		"token with padding": {func(c *daemon.Config) { c.Control.Tokens = []daemon.Token{{Name: "shop", Token: "YQ=="}} }, "", ""},
		"token name twice": {func(c *daemon.Config) {
			c.Control.Tokens = []daemon.Token{{Name: "shop", Token: "a"}, {Name: "shop", Token: "b"}}
		}, "control.tokens", `two tokens with the name "shop"`},
		"token twice": {func(c *daemon.Config) {
			c.Control.Tokens = []daemon.Token{{Name: "shop", Token: "a"}, {Name: "till", Token: "a"}}
		}, "control.tokens", `the same token for "shop" and "till"`},
		"unknown scope": {func(c *daemon.Config) {
			c.Control.Tokens = []daemon.Token{{Name: "shop", Token: "a", Scopes: []string{"write"}}}
		}, "control.tokens", `the scope "write", accepted: publish, read, tokens, admin`},
		"headers":             {func(c *daemon.Config) { c.SSE.AllowedHeaders = []string{"X-Request-ID", "b3"} }, "", ""},
		"header with a space": {func(c *daemon.Config) { c.SSE.AllowedHeaders = []string{"X-Request-ID", "a b"} }, "sse.allowed_headers", `given "a b"`},
		"any header":          {func(c *daemon.Config) { c.SSE.AllowedHeaders = []string{"*"} }, "sse.allowed_headers", "names of headers"},
		"origins in German": {func(c *daemon.Config) {
			c.SSE.AllowedOrigins = []string{"https://bücher.example", "https://*.straße.example:8443"}
		}, "", ""},
		"origin that is no name": {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"https://xn--ü.example"} }, "sse.allowed_origins", "xn--ü"},
		"proxy that is no URL": {func(c *daemon.Config) {
			c.Auth.CallbackURL, c.Auth.HTTPProxy = "http://a.example", "user:pass@proxy:3128"
		}, "auth.http_proxy", "a text that is no such URL"},
		"proxy of FTP": {func(c *daemon.Config) {
			c.Auth.CallbackURL, c.Auth.HTTPProxy = "http://a.example", "ftp://proxy.example"
		}, "auth.http_proxy", "socks5://"},
		"proxy with a path": {func(c *daemon.Config) {
			c.Auth.CallbackURL, c.Auth.HTTPProxy = "http://a.example", "http://proxy.example/x"
		}, "auth.http_proxy", "environment"},
		"proxy for nothing": {func(c *daemon.Config) { c.Auth.HTTPProxy = "environment" }, "auth.http_proxy", "auth.callback_url"},
		"proxy for a file": {func(c *daemon.Config) {
			c.Auth.JWT.JWKSURL, c.Auth.HTTPProxy = "/keys.json", "http://proxy.example"
		}, "auth.http_proxy", "auth.jwt.jwks_url"},
		"cookie with spaces":       {func(c *daemon.Config) { c.Auth.Cookie = "a b" }, "auth.cookie", `"a b"`},
		"no cookie":                {func(c *daemon.Config) { c.Auth.Cookie = "" }, "", ""},
		"secret":                   {func(c *daemon.Config) { c.Auth.JWT.HMACSecret = secret }, "", ""},
		"short secret":             {func(c *daemon.Config) { c.Auth.JWT.HMACSecret = secret[1:] }, "auth.jwt.hmac_secret", "a secret of 31 bytes, accepted: at least 32 bytes"},
		"issuer without secret":    {func(c *daemon.Config) { c.Auth.JWT.Issuer = "me" }, "auth.jwt.issuer", "auth.jwt.hmac_secret"},
		"audience without secret":  {func(c *daemon.Config) { c.Auth.JWT.Audience = "you" }, "auth.jwt.audience", "auth.jwt.hmac_secret"},
		"nobody may have a stream": {func(c *daemon.Config) { c.Auth.Anonymous = false }, "auth.anonymous", "auth.jwt.hmac_secret"},
		"no anonymous": {func(c *daemon.Config) {
			c.Auth.Anonymous, c.Auth.JWT = false, daemon.JWT{HMACSecret: secret, Issuer: "me", Audience: "you"}
		}, "", ""},
		"negative shards":     {func(c *daemon.Config) { c.Broker.Shards = -1 }, "broker.shards", "given -1, accepted: 1 to 1024"},
		"too many shards":     {func(c *daemon.Config) { c.Broker.Shards = 1025 }, "broker.shards", "given 1025"},
		"queue for nothing":   {func(c *daemon.Config) { c.Broker.QueueBytes = 1023 }, "broker.queue_bytes", "given 1023, accepted: at least 1KiB"},
		"unknown slow policy": {func(c *daemon.Config) { c.Broker.SlowConsumer = "wait" }, "broker.slow_consumer", "disconnect, drop-oldest, conflate"},
		"conflation":          {func(c *daemon.Config) { c.Broker.SlowConsumer = "conflate" }, "", ""},
		"negative events":     {func(c *daemon.Config) { c.History.MaxEvents = -1 }, "history.max_events", "given -1"},
		"no log":              {func(c *daemon.Config) { c.History.MaxEvents = 0 }, "", ""},
		"log without memory":  {func(c *daemon.Config) { c.History.MaxBytes = 1023 }, "history.max_bytes", "given 1023, accepted: at least 1KiB"},
		"negative age":        {func(c *daemon.Config) { c.History.MaxAge = -time.Second }, "history.max_age", "given -1s"},
		"any age":             {func(c *daemon.Config) { c.History.MaxAge = 0 }, "", ""},
		"no window":           {func(c *daemon.Config) { c.History.IdempotencyWindow = 0 }, "history.idempotency_window", "given 0s, accepted: at least 1s"},
		"anonymous topics":    {func(c *daemon.Config) { c.Auth.AnonymousTopics = []string{"news", "prices.*", "sport.>"} }, "", ""},
		"a bad pattern":       {func(c *daemon.Config) { c.Auth.AnonymousTopics = []string{"news", "a.>.b"} }, "auth.anonymous_topics", `given "a.>.b"`},
		"an empty topic":      {func(c *daemon.Config) { c.Auth.AnonymousTopics = []string{""} }, "auth.anonymous_topics", `given ""`},
		"topics of nobody": {func(c *daemon.Config) {
			c.Auth.Anonymous, c.Auth.AnonymousTopics, c.Auth.JWT.HMACSecret = false, []string{"news"}, secret
		}, "auth.anonymous_topics", "together with auth.anonymous"},
		"unknown engine":        {func(c *daemon.Config) { c.SSE.Engine = "io_uring" }, "sse.engine", "auto, epoll, nethttp"},
		"unknown level":         {func(c *daemon.Config) { c.Log.Level = "verbose" }, "log.level", "debug, info, warn, error"},
		"unknown format":        {func(c *daemon.Config) { c.Log.Format = "xml" }, "log.format", "text, json"},
		"no time for the drain": {func(c *daemon.Config) { c.Drain.Timeout = 0 }, "drain.timeout", "given 0s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := daemon.Defaults()
			test.change(&cfg)
			err := cfg.Validate()
			if test.key == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			setting, ok := errors.AsType[*daemon.SettingError](err)
			if !ok {
				t.Fatalf("error is %v, want one about %s", err, test.key)
			}
			if text := err.Error(); setting.Key != test.key || !strings.Contains(text, test.says) || strings.Contains(text, "\n") {
				t.Errorf("error is %q, want %s and %q on one line", text, test.key, test.says)
			}
		})
	}
}

func TestValidateKeepsSecrets(t *testing.T) {
	t.Parallel()
	cfg := daemon.Defaults()
	cfg.Auth.JWT.HMACSecret = "hunter2"
	if err := cfg.Validate(); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error is %v", err)
	}
	cfg = daemon.Defaults()
	cfg.Control.Tokens = []daemon.Token{{Name: "shop", Token: "hunter 2"}}
	if err := cfg.Validate(); err == nil || strings.Contains(err.Error(), "hunter") {
		t.Errorf("error is %v", err)
	}
}

func TestBytesAsText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]daemon.Bytes{
		"0": 0, "1500": 1500, "1KiB": 1 << 10, "1536KiB": 1536 << 10, "1MiB": 1 << 20, "3GiB": 3 << 30,
	} {
		var b daemon.Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%s is %d (%v), want %d", text, b, err, want)
		}
		if back := want.String(); back != text {
			t.Errorf("%d reads %s, want %s", want, back, text)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1 XB", "99999999999999999999"} {
		var b daemon.Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken for %d", text, b)
		}
	}
}
