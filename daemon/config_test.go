package daemon_test

import (
	"cmp"
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

func TestSettingKeys(t *testing.T) {
	t.Parallel()

	var keys []string

	for _, s := range daemon.Defaults().Settings() {
		keys = append(keys, s.Key)
	}

	want := strings.Fields(`
		sse.addr sse.path sse.heartbeat sse.retry sse.write_timeout sse.max_age sse.allowed_origins sse.allowed_headers sse.max_connections
		sse.max_connections_per_user sse.max_connections_per_ip sse.max_connects_per_second
		sse.trusted_proxies sse.proxy_header sse.proxy_protocol sse.compression sse.client sse.engine sse.reuse_port
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
		retain.max_events retain.max_bytes
		topics
		hooks sources
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

// hookSecret is a valid secret of a hook.
const hookSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// hook returns a change that sets hooks. Those without a secret get a valid one.
func hook(hooks ...daemon.Hook) func(*daemon.Config) {
	return func(c *daemon.Config) {
		for i := range hooks {
			hooks[i].Secret = cmp.Or(hooks[i].Secret, hookSecret)
		}
		c.Hooks = hooks
	}
}

// policy returns a change that sets a policy for topics.
func policy(p daemon.TopicPolicy) func(*daemon.Config) {
	return func(c *daemon.Config) { c.Topics = []daemon.TopicPolicy{p} }
}

func TestValidate(t *testing.T) {
	t.Parallel()

	shop := daemon.Token{Name: "shop", Token: "c2VjcmV0", Scopes: []string{"publish", "read", "admin"}}
	for name, test := range map[string]struct {
		change func(*daemon.Config)
		key    string // of the error, "" for none
		text   string // part of the error
	}{
		"address without port":     {func(c *daemon.Config) { c.SSE.Addr = "localhost" }, "sse.addr", `"localhost"`},
		"empty address":            {func(c *daemon.Config) { c.REST.Addr = "" }, "rest.addr", `given ""; want HOST:PORT`},
		"named port":               {func(c *daemon.Config) { c.GRPC.Addr = "127.0.0.1:http" }, "grpc.addr", "HOST:PORT"},
		"port out of range":        {func(c *daemon.Config) { c.GRPC.Addr = "127.0.0.1:65536" }, "grpc.addr", "HOST:PORT"},
		"socket file":              {func(c *daemon.Config) { c.GRPC.Addr, c.REST.Addr = "unix:peald.sock", "unix:///run/rest.sock" }, "", ""},
		"same file twice":          {func(c *daemon.Config) { c.GRPC.Addr, c.REST.Addr = "unix:/run/s", "unix:///run/s" }, "rest.addr", "which is also grpc.addr"},
		"file for browsers":        {func(c *daemon.Config) { c.SSE.Addr = "unix:/run/s" }, "sse.addr", `HOST:PORT such as "127.0.0.1:9090" or ":8080"; port 0 selects a free port`},
		"no file":                  {func(c *daemon.Config) { c.GRPC.Addr = "unix:" }, "grpc.addr", "no file name"},
		"directory":                {func(c *daemon.Config) { c.GRPC.Addr = "unix:/run/" }, "grpc.addr", "no file name"},
		"file on a host":           {func(c *daemon.Config) { c.GRPC.Addr = "unix://run/s" }, "grpc.addr", "host before the path"},
		"abstract socket":          {func(c *daemon.Config) { c.GRPC.Addr = "unix:@peald" }, "grpc.addr", "no permissions"},
		"long path":                {func(c *daemon.Config) { c.REST.Addr = "unix:/" + strings.Repeat("x", 200) }, "rest.addr", "201 bytes"},
		"not writable":             {func(c *daemon.Config) { c.GRPC.SocketMode = 0o440 }, "grpc.socket_mode", "given 0440"},
		"IPv6":                     {func(c *daemon.Config) { c.GRPC.Addr = "[::1]:9090" }, "", ""},
		"same address twice":       {func(c *daemon.Config) { c.REST.Addr = c.GRPC.Addr }, "rest.addr", "which is also grpc.addr"},
		"port 0 twice":             {func(c *daemon.Config) { c.REST.Addr, c.GRPC.Addr = "127.0.0.1:0", "127.0.0.1:0" }, "", ""},
		"relative path":            {func(c *daemon.Config) { c.SSE.Path = "events" }, "sse.path", `"events"`},
		"path with query":          {func(c *daemon.Config) { c.SSE.Path = "/events?a=b" }, "sse.path", `"/events?a=b"`},
		"short heartbeat":          {func(c *daemon.Config) { c.SSE.Heartbeat = 999 * time.Millisecond }, "sse.heartbeat", "given 999ms; want at least 1s"},
		"no retry":                 {func(c *daemon.Config) { c.SSE.Retry = 0 }, "sse.retry", "given 0s"},
		"no write timeout":         {func(c *daemon.Config) { c.SSE.WriteTimeout = 0 }, "sse.write_timeout", "given 0s"},
		"negative write timeout":   {func(c *daemon.Config) { c.SSE.WriteTimeout = -1 }, "sse.write_timeout", "given -1ns"},
		"maximum age":              {func(c *daemon.Config) { c.SSE.MaxAge = 720 * time.Hour }, "", ""},
		"short maximum age":        {func(c *daemon.Config) { c.SSE.MaxAge = 999 * time.Millisecond }, "sse.max_age", "given 999ms; want 1s to 720h, or 0s for no limit"},
		"negative maximum age":     {func(c *daemon.Config) { c.SSE.MaxAge = -time.Hour }, "sse.max_age", "given -1h0m0s"},
		"long maximum age":         {func(c *daemon.Config) { c.SSE.MaxAge = 721 * time.Hour }, "sse.max_age", "given 721h0m0s; want 1s to 720h"},
		"origins":                  {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"https://a.example", "http://b.example:3000"} }, "", ""},
		"any origin":               {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"*"} }, "", ""},
		"origin without scheme":    {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"a.example"} }, "sse.allowed_origins", `"a.example"`},
		"origin with slash":        {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"https://a.example/"} }, "sse.allowed_origins", `"https://a.example/"`},
		"origin in upper case":     {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"https://A.example"} }, "sse.allowed_origins", "as browsers send"},
		"origin with default port": {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"https://a.example:443"} }, "sse.allowed_origins", "as browsers send"},
		"origins with wildcard": {func(c *daemon.Config) {
			c.SSE.AllowedOrigins = []string{"https://*.example.com", "http://*.localhost:3000"}
		}, "", ""},
		"wildcard only":           {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"https://*"} }, "sse.allowed_origins", `"https://*"`},
		"wildcard in the middle":  {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"https://a.*.example.com"} }, "sse.allowed_origins", "https://a.*"},
		"negative limit per user": {func(c *daemon.Config) { c.SSE.MaxConnectionsPerUser = -1 }, "sse.max_connections_per_user", "given -1"},
		"negative limit per IP":   {func(c *daemon.Config) { c.SSE.MaxConnectionsPerIP = -1 }, "sse.max_connections_per_ip", "given -1"},
		"guard without tokens":    {func(c *daemon.Config) { c.Control.GuardMetrics = true }, "control.guard_metrics", "control.tokens, one of which"},
		"negative rate of calls":  {func(c *daemon.Config) { c.Control.RateLimit = -1 }, "control.rate_limit", "given -1"},
		"negative rate":           {func(c *daemon.Config) { c.SSE.MaxConnectsPerSecond = -1 }, "sse.max_connects_per_second", "given -1"},
		"proxies": {func(c *daemon.Config) {
			c.SSE.TrustedProxies = []string{"10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1"}
		}, "", ""},
		"proxies by name":          {func(c *daemon.Config) { c.SSE.TrustedProxies = []string{"proxy.internal"} }, "sse.trusted_proxies", `"proxy.internal"`},
		"unknown proxy header":     {func(c *daemon.Config) { c.SSE.ProxyHeader = "X-Real-IP" }, "sse.proxy_header", "X-Forwarded-For or Forwarded"},
		"PROXY without proxies":    {func(c *daemon.Config) { c.SSE.ProxyProtocol = true }, "sse.proxy_protocol", "sse.trusted_proxies"},
		"public keys only":         {func(c *daemon.Config) { c.Auth.JWT.PublicKeyFile, c.Auth.Anonymous = "k.pem", false }, "", ""},
		"key set only":             {func(c *daemon.Config) { c.Auth.JWT.JWKSURL, c.Auth.JWT.Issuer = "https://id.example/jwks", "x" }, "", ""},
		"key set over FTP":         {func(c *daemon.Config) { c.Auth.JWT.JWKSURL = "ftp://id.example/jwks" }, "auth.jwt.jwks_url", `"ftp"`},
		"callback only":            {func(c *daemon.Config) { c.Auth.CallbackURL, c.Auth.Anonymous = "http://127.0.0.1:8000/sse", false }, "", ""},
		"callback without host":    {func(c *daemon.Config) { c.Auth.CallbackURL = "/sse" }, "auth.callback_url", "https://"},
		"callback and secret":      {func(c *daemon.Config) { c.Auth.CallbackURL, c.Auth.JWT.HMACSecret = "http://a.example", secret }, "auth.callback_url", "auth.jwt"},
		"callback without timeout": {func(c *daemon.Config) { c.Auth.CallbackURL, c.Auth.CallbackTimeout = "http://a.example", 0 }, "auth.callback_timeout", "0s"},
		"callback with bad header": {func(c *daemon.Config) {
			c.Auth.CallbackURL, c.Auth.CallbackHeaders = "http://a.example", []string{"a b"}
		}, "auth.callback_headers", `"a b"`},
		"callback concurrency 0":  {func(c *daemon.Config) { c.Auth.CallbackURL, c.Auth.CallbackConcurrency = "http://a.example", 0 }, "auth.callback_concurrency", "given 0"},
		"negative maximum":        {func(c *daemon.Config) { c.SSE.MaxConnections = -1 }, "sse.max_connections", "given -1"},
		"certificate without key": {func(c *daemon.Config) { c.SSE.TLS.CertFile = "c.pem" }, "sse.tls.key_file", "both or neither"},
		"key without certificate": {func(c *daemon.Config) { c.GRPC.TLS.KeyFile = "k.pem" }, "grpc.tls.cert_file", "both or neither"},
		"authorities only":        {func(c *daemon.Config) { c.GRPC.TLS.ClientCAFile = "ca.pem" }, "grpc.tls.client_ca_file", "without grpc.tls.cert_file"},
		"exposed gRPC":            {func(c *daemon.Config) { c.GRPC.Addr = ":9090" }, "grpc.addr", `given ":9090" with no control.tokens`},
		"exposed REST":            {func(c *daemon.Config) { c.REST.Addr = "192.0.2.1:9091" }, "rest.addr", "control.tokens or control.insecure"},
		"REST on a name":          {func(c *daemon.Config) { c.REST.Addr = "example.com:9091" }, "rest.addr", "control.insecure"},
		"REST on localhost":       {func(c *daemon.Config) { c.REST.Addr = "localhost:9091" }, "", ""},
		"exposed and insecure": {func(c *daemon.Config) {
			c.GRPC.Addr, c.REST.Addr, c.Control.Insecure = ":9090", ":9091", true
		}, "", ""},
		"exposed with tokens": {func(c *daemon.Config) {
			c.GRPC.Addr, c.REST.Addr, c.Control.Tokens = ":9090", ":9091", []daemon.Token{shop}
		}, "", ""},
		"exposed gRPC with client certificates": {func(c *daemon.Config) {
			c.GRPC.Addr, c.GRPC.TLS = ":9090", daemon.MutualTLS{CertFile: "c.pem", KeyFile: "k.pem", ClientCAFile: "ca.pem"}
		}, "", ""},
		"exposed gRPC with server certificate": {func(c *daemon.Config) {
			c.GRPC.Addr, c.GRPC.TLS = ":9090", daemon.MutualTLS{CertFile: "c.pem", KeyFile: "k.pem"}
		}, "grpc.addr", "client_ca_file"},
		"exposed REST with client certificates": {func(c *daemon.Config) {
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
		}, "control.tokens", `the scope "write"; want publish, read, data, tokens or admin`},
		"headers":             {func(c *daemon.Config) { c.SSE.AllowedHeaders = []string{"X-Request-ID", "b3"} }, "", ""},
		"header with a space": {func(c *daemon.Config) { c.SSE.AllowedHeaders = []string{"X-Request-ID", "a b"} }, "sse.allowed_headers", `given "a b"`},
		"wildcard header":     {func(c *daemon.Config) { c.SSE.AllowedHeaders = []string{"*"} }, "sse.allowed_headers", "names of headers"},
		"international origins": {func(c *daemon.Config) {
			c.SSE.AllowedOrigins = []string{"https://bücher.example", "https://*.straße.example:8443"}
		}, "", ""},
		"invalid international origin": {func(c *daemon.Config) { c.SSE.AllowedOrigins = []string{"https://xn--ü.example"} }, "sse.allowed_origins", "xn--ü"},
		"proxy without scheme": {func(c *daemon.Config) {
			c.Auth.CallbackURL, c.Auth.HTTPProxy = "http://a.example", "user:pass@proxy:3128"
		}, "auth.http_proxy", "an invalid URL"},
		"FTP proxy": {func(c *daemon.Config) {
			c.Auth.CallbackURL, c.Auth.HTTPProxy = "http://a.example", "ftp://proxy.example"
		}, "auth.http_proxy", "socks5://"},
		"proxy with a path": {func(c *daemon.Config) {
			c.Auth.CallbackURL, c.Auth.HTTPProxy = "http://a.example", "http://proxy.example/x"
		}, "auth.http_proxy", "environment"},
		"proxy without requests": {func(c *daemon.Config) { c.Auth.HTTPProxy = "environment" }, "auth.http_proxy", "auth.callback_url"},
		"proxy with key file": {func(c *daemon.Config) {
			c.Auth.JWT.JWKSURL, c.Auth.HTTPProxy = "/keys.json", "http://proxy.example"
		}, "auth.http_proxy", "auth.jwt.jwks_url"},
		"cookie with spaces":      {func(c *daemon.Config) { c.Auth.Cookie = "a b" }, "auth.cookie", `"a b"`},
		"no cookie":               {func(c *daemon.Config) { c.Auth.Cookie = "" }, "", ""},
		"secret":                  {func(c *daemon.Config) { c.Auth.JWT.HMACSecret = secret }, "", ""},
		"short secret":            {func(c *daemon.Config) { c.Auth.JWT.HMACSecret = secret[1:] }, "auth.jwt.hmac_secret", "a secret of 31 bytes; want at least 32 bytes"},
		"issuer without secret":   {func(c *daemon.Config) { c.Auth.JWT.Issuer = "me" }, "auth.jwt.issuer", "auth.jwt.hmac_secret"},
		"audience without secret": {func(c *daemon.Config) { c.Auth.JWT.Audience = "you" }, "auth.jwt.audience", "auth.jwt.hmac_secret"},
		"no anonymous, no keys":   {func(c *daemon.Config) { c.Auth.Anonymous = false }, "auth.anonymous", "auth.jwt.hmac_secret"},
		"no anonymous": {func(c *daemon.Config) {
			c.Auth.Anonymous, c.Auth.JWT = false, daemon.JWT{HMACSecret: secret, Issuer: "me", Audience: "you"}
		}, "", ""},
		"negative shards":     {func(c *daemon.Config) { c.Broker.Shards = -1 }, "broker.shards", "given -1; want 1 to 1024"},
		"too many shards":     {func(c *daemon.Config) { c.Broker.Shards = 1025 }, "broker.shards", "given 1025"},
		"small queue":         {func(c *daemon.Config) { c.Broker.QueueBytes = 1023 }, "broker.queue_bytes", "given 1023; want at least 1KiB"},
		"large queue":         {func(c *daemon.Config) { c.Broker.QueueBytes = 2 << 30 }, "broker.queue_bytes", "given 2GiB; want at most 1GiB"},
		"unknown slow policy": {func(c *daemon.Config) { c.Broker.SlowConsumer = "wait" }, "broker.slow_consumer", "disconnect, drop-oldest or conflate"},
		"conflation":          {func(c *daemon.Config) { c.Broker.SlowConsumer = "conflate" }, "", ""},
		"negative events":     {func(c *daemon.Config) { c.History.MaxEvents = -1 }, "history.max_events", "given -1"},
		"no history":          {func(c *daemon.Config) { c.History.MaxEvents = 0 }, "", ""},
		"small history":       {func(c *daemon.Config) { c.History.MaxBytes = 1023 }, "history.max_bytes", "given 1023; want at least 1KiB"},
		"negative age":        {func(c *daemon.Config) { c.History.MaxAge = -time.Second }, "history.max_age", "given -1s"},
		"no limit of age":     {func(c *daemon.Config) { c.History.MaxAge = 0 }, "", ""},
		"no window":           {func(c *daemon.Config) { c.History.IdempotencyWindow = 0 }, "history.idempotency_window", "given 0s; want at least 1s"},
		"anonymous topics":    {func(c *daemon.Config) { c.Auth.AnonymousTopics = []string{"news", "prices.*", "sport.>"} }, "", ""},
		"invalid pattern":     {func(c *daemon.Config) { c.Auth.AnonymousTopics = []string{"news", "a.>.b"} }, "auth.anonymous_topics", `given "a.>.b"`},
		"empty topic":         {func(c *daemon.Config) { c.Auth.AnonymousTopics = []string{""} }, "auth.anonymous_topics", `given ""`},
		"topics without anonymous": {func(c *daemon.Config) {
			c.Auth.Anonymous, c.Auth.AnonymousTopics, c.Auth.JWT.HMACSecret = false, []string{"news"}, secret
		}, "auth.anonymous_topics", "auth.anonymous too"},
		"policies": {func(c *daemon.Config) {
			c.Topics = []daemon.TopicPolicy{
				{Pattern: "prices.>", History: daemon.TopicHistory{MaxEvents: new(1), MaxAge: new(time.Hour)}, SlowConsumer: "conflate", Anonymous: new(true)},
				{Pattern: ">"}, {Pattern: "prices.eur", Anonymous: new(false)},
			}
		}, "", ""},
		"policy without a pattern":     {policy(daemon.TopicPolicy{}), "topics[0].pattern", `given ""`},
		"policy with a wrong pattern":  {policy(daemon.TopicPolicy{Pattern: "a.>.b"}), "topics[0].pattern", `given "a.>.b"; want a topic such as`},
		"policy without events":        {policy(daemon.TopicPolicy{Pattern: "a", History: daemon.TopicHistory{MaxEvents: new(0)}}), "topics[0].history.max_events", "given 0; want at least 1"},
		"policy with a negative age":   {policy(daemon.TopicPolicy{Pattern: "a", History: daemon.TopicHistory{MaxAge: new(-time.Second)}}), "topics[0].history.max_age", "given -1s"},
		"policy without a maximum age": {policy(daemon.TopicPolicy{Pattern: "a", History: daemon.TopicHistory{MaxAge: new(time.Duration(0))}}), "", ""},
		"policy for unknown consumers": {policy(daemon.TopicPolicy{Pattern: "a", SlowConsumer: "wait"}), "topics[0].slow_consumer", "disconnect, drop-oldest or conflate"},
		"too many policies":            {func(c *daemon.Config) { c.Topics = make([]daemon.TopicPolicy, 1001) }, "topics", "given 1001 policies; want at most 1000"},
		"policy with a disabled history": {func(c *daemon.Config) {
			c.History.MaxEvents = 0
			c.Topics = []daemon.TopicPolicy{{Pattern: "a", History: daemon.TopicHistory{MaxEvents: new(1)}}}
		}, "topics[0].history", "history.max_events is 0"},
		"policy for anonymous streams without any": {func(c *daemon.Config) {
			c.Auth.Anonymous, c.Auth.JWT.HMACSecret = false, secret
			c.Topics = []daemon.TopicPolicy{{Pattern: "a", Anonymous: new(true)}}
		}, "topics[0].anonymous", "auth.anonymous too"},
		"policy for anonymous streams with a callback": {func(c *daemon.Config) {
			c.Auth.CallbackURL = "https://app.example"
			c.Topics = []daemon.TopicPolicy{{Pattern: "a", Anonymous: new(false)}}
		}, "topics[0].anonymous", "the application decides"},
		"hooks": {hook(
			daemon.Hook{URL: "https://user:password@app.example/a?b=c", Events: []string{"user.online", "topic.vacated"}, Delay: new(time.Hour)},
			daemon.Hook{URL: "http://127.0.0.1:8000", Secret: hookSecret + " " + hookSecret, Delay: new(time.Duration(0))},
		), "", ""},
		"hook without a URL":         {hook(daemon.Hook{}), "hooks[0].url", "given nothing; want a URL that begins with"},
		"hook with another scheme":   {hook(daemon.Hook{URL: "ftp://app.example/" + secret}), "hooks[0].url", "given an invalid URL; want a URL that begins with https:// or http://"},
		"hook without a host":        {hook(daemon.Hook{URL: "https:/hooks"}), "hooks[0].url", "given an invalid URL"},
		"hook with a fragment":       {hook(daemon.Hook{URL: "https://app.example/#a"}), "hooks[0].url", "given a URL with a fragment"},
		"hooks for the same URL":     {hook(daemon.Hook{URL: "https://app.example/a?b"}, daemon.Hook{URL: "https://app.example/a?c"}), "hooks[1].url", `given "https://app.example/a", which an earlier hook has too`},
		"hook with unknown event":    {hook(daemon.Hook{URL: "https://app.example", Events: []string{"user.away"}}), "hooks[0].events", `given "user.away"; want user.online, user.offline, topic.occupied or topic.vacated`},
		"hook with an event twice":   {hook(daemon.Hook{URL: "https://app.example", Events: []string{"user.online", "user.online"}}), "hooks[0].events", `given "user.online" twice`},
		"hook with a raw secret":     {hook(daemon.Hook{URL: "https://app.example", Secret: secret}), "hooks[0].secret", "given a secret without the prefix whsec_; want"},
		"hook with a short secret":   {hook(daemon.Hook{URL: "https://app.example", Secret: "whsec_MDEy"}), "hooks[0].secret", "given a secret of 3 bytes; want"},
		"hook without a secret":      {func(c *daemon.Config) { c.Hooks = []daemon.Hook{{URL: "https://app.example"}} }, "hooks[0].secret", "given no secret; want"},
		"hook with a negative delay": {hook(daemon.Hook{URL: "https://app.example", Delay: new(-time.Second)}), "hooks[0].delay", "given -1s; want 0s to 1h0m0s"},
		"hook with a long delay":     {hook(daemon.Hook{URL: "https://app.example", Delay: new(2 * time.Hour)}), "hooks[0].delay", "given 2h0m0s"},
		"too many hooks":             {func(c *daemon.Config) { c.Hooks = make([]daemon.Hook, 17) }, "hooks", "given 17 hooks; want at most 16"},
		"client's path":              {func(c *daemon.Config) { c.SSE.Path = "/peald.js" }, "sse.path", "sse.client=false"},
		"without a client":           {func(c *daemon.Config) { c.SSE.Path, c.SSE.Client = "/peald.js", false }, "", ""},
		"compression off":            {func(c *daemon.Config) { c.SSE.Compression = "off" }, "", ""},
		"other coding":               {func(c *daemon.Config) { c.SSE.Compression = "br" }, "sse.compression", "auto or off"},
		"unknown engine":             {func(c *daemon.Config) { c.SSE.Engine = "io_uring" }, "sse.engine", "auto, epoll or nethttp"},
		"unknown level":              {func(c *daemon.Config) { c.Log.Level = "verbose" }, "log.level", "debug, info, warn or error"},
		"unknown format":             {func(c *daemon.Config) { c.Log.Format = "xml" }, "log.format", "text or json"},
		"no drain timeout":           {func(c *daemon.Config) { c.Drain.Timeout = 0 }, "drain.timeout", "given 0s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			cfg := daemon.Defaults()
			test.change(&cfg)
			err := cfg.Validate()
			if test.key == "" {
				if err != nil {
					t.Fatalf("rejected: %v", err)
				}
				return
			}

			setting, ok := errors.AsType[*daemon.SettingError](err)
			if !ok {
				t.Fatalf("error is %v, want one about %s", err, test.key)
			}
			if text := err.Error(); setting.Key != test.key || !strings.Contains(text, test.text) || strings.Contains(text, "\n") {
				t.Errorf("error is %q, want %s and %q on one line", text, test.key, test.text)
			}
		})
	}
}

func TestValidateHidesSecrets(t *testing.T) {
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
			t.Errorf("Bytes(%d) is %s, want %s", want, back, text)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1 XB", "99999999999999999999"} {
		var b daemon.Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is parsed as %d", text, b)
		}
	}
}
