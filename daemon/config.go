package daemon

import (
	"time"

	"github.com/peald/peald/ssehttp"
)

// Config is everything that can be set about a daemon. A field's mapstructure
// tags, joined by dots, are its key ("sse.tls.cert_file"); its doc tag is what
// help, comments in files and the reference say of it; a field tagged choices
// takes one of those words; a field tagged secret is never printed; one tagged
// reload can change while the daemon runs; one tagged empty can be set to an
// empty text in a file, where other empty entries count as not set. Start from [Defaults]: the zero Config
// is not a valid one.
type Config struct {
	SSE     SSE     `mapstructure:"sse"`
	GRPC    GRPC    `mapstructure:"grpc"`
	REST    REST    `mapstructure:"rest"`
	Control Control `mapstructure:"control"`
	Auth    Auth    `mapstructure:"auth"`
	Broker  Broker  `mapstructure:"broker"`
	History History `mapstructure:"history"`
	Cluster Cluster `mapstructure:"cluster"`
	Log     Log     `mapstructure:"log"`
	Drain   Drain   `mapstructure:"drain"`
	Debug   Debug   `mapstructure:"debug"`
}

// SSE sets the listener that browsers connect to.
type SSE struct {
	Addr                  string        `mapstructure:"addr" doc:"Address of the listener for browsers. With --demo it is 127.0.0.1:8080 unless it is set."`
	Path                  string        `mapstructure:"path" doc:"Path of the event stream."`
	Heartbeat             time.Duration `mapstructure:"heartbeat" reload:"true" doc:"How long a stream may be silent before it gets a heartbeat, so that proxies keep it open. At least 1s."`
	Retry                 time.Duration `mapstructure:"retry" reload:"true" doc:"How long a browser waits before it reconnects. Each is told a time somewhat around it, so that not all come at once."`
	WriteTimeout          time.Duration `mapstructure:"write_timeout" reload:"true" doc:"A stream whose socket takes no byte for this long is closed."`
	AllowedOrigins        []string      `mapstructure:"allowed_origins" reload:"true" doc:"Origins of the pages that may read the stream from another site, such as https://example.com or https://*.example.com; * is any, but without cookies. Pages of the listener's own origin always may."`
	AllowedHeaders        []string      `mapstructure:"allowed_headers" reload:"true" doc:"Names of request headers that those pages may send, besides Last-Event-ID, Authorization, Cache-Control, traceparent, tracestate, baggage and sentry-trace."`
	MaxConnections        int           `mapstructure:"max_connections" reload:"true" doc:"Streams held at most; clients beyond are told to come back later. 0 is what the limit of file descriptors allows."`
	MaxConnectionsPerUser int           `mapstructure:"max_connections_per_user" reload:"true" doc:"Streams that one user may hold; a further one is refused. 0 is no limit."`
	MaxConnectionsPerIP   int           `mapstructure:"max_connections_per_ip" reload:"true" doc:"Streams that one address may hold, of IPv6 one /64; a further one is refused. 0 is no limit. Behind a proxy it needs sse.trusted_proxies."`
	MaxConnectsPerSecond  int           `mapstructure:"max_connects_per_second" reload:"true" doc:"Streams that may be opened in a second, by all together; clients beyond are told to come back later. 0 is no limit."`
	TrustedProxies        []string      `mapstructure:"trusted_proxies" reload:"true" doc:"Networks and addresses of proxies, such as 10.0.0.0/8, which are believed when they say whom they speak for."`
	ProxyHeader           string        `mapstructure:"proxy_header" reload:"true" choices:"X-Forwarded-For Forwarded" doc:"The header in which trusted proxies say whom they speak for: X-Forwarded-For, or Forwarded (RFC 7239). The other one is not believed."`
	ProxyProtocol         bool          `mapstructure:"proxy_protocol" reload:"true" doc:"Whether trusted proxies begin each connection with a header of the PROXY protocol, version 1 or 2. They then have to."`
	Engine                string        `mapstructure:"engine" choices:"auto epoll nethttp" doc:"How bytes get to browsers: epoll holds a stream over plain HTTP/1.1 as a bare descriptor, which is by far the cheapest and Linux's own; nethttp has a goroutine a stream; auto is epoll where it can be had."`
	ReusePort             bool          `mapstructure:"reuse_port" doc:"Let another daemon of the same user listen at the same time on all three addresses (SO_REUSEPORT), so that it takes connections before this one ends. Linux's own; not with socket files."`
	TLS                   TLS           `mapstructure:"tls"`
}

// What sse.engine can be.
const (
	EngineAuto    = "auto"
	EngineEpoll   = "epoll"
	EngineNetHTTP = "nethttp"
)

// TLS names a server's certificate.
type TLS struct {
	CertFile string `mapstructure:"cert_file" doc:"PEM file of the certificate chain. Empty is plain text."`
	KeyFile  string `mapstructure:"key_file" doc:"PEM file of the certificate's private key."`
}

// GRPC sets the gRPC listener of the control plane.
type GRPC struct {
	Addr       string    `mapstructure:"addr" doc:"Address of the gRPC listener: HOST:PORT, or unix:PATH for a socket file, such as unix:/run/peald.sock. On other than a loopback address or a socket file it needs control.tokens, grpc.tls.client_ca_file or control.insecure."`
	SocketMode FileMode  `mapstructure:"socket_mode" doc:"Permissions of the socket file, if grpc.addr is one: who may write to it may call. As a text of octal digits."`
	TLS        MutualTLS `mapstructure:"tls"`
}

// MutualTLS names a server's certificate and who may call with one.
type MutualTLS struct {
	CertFile     string `mapstructure:"cert_file" doc:"PEM file of the certificate chain. Empty is plain text."`
	KeyFile      string `mapstructure:"key_file" doc:"PEM file of the certificate's private key."`
	ClientCAFile string `mapstructure:"client_ca_file" doc:"PEM file of the authorities one of which must have signed the certificate of whoever calls. Empty asks for no certificate."`
}

// REST sets the REST listener of the control plane.
type REST struct {
	Addr       string   `mapstructure:"addr" doc:"Address of the listener for REST, metrics and health: HOST:PORT, or unix:PATH for a socket file. It has no TLS, so tokens travel in clear: beyond loopback, put a proxy with TLS in front. On other than a loopback address or a socket file it needs control.tokens or control.insecure."`
	SocketMode FileMode `mapstructure:"socket_mode" doc:"Permissions of the socket file, if rest.addr is one. As a text of octal digits."`
}

// Control sets who may call the control plane.
type Control struct {
	Tokens       []Token `mapstructure:"tokens" reload:"true" doc:"Tokens that callers must show, unless they show a client certificate (grpc.tls.client_ca_file); each with a name for the log and the scopes that it has: publish, read, tokens, admin; without scopes it has all. An empty list asks for none." secret:"true"`
	RateLimit    int     `mapstructure:"rate_limit" reload:"true" doc:"Calls that each name of a token or certificate may make in a second, and at once; those without a name share one. Each message of a PublishStream is one, and waits where others are refused. 0 is no limit."`
	GuardMetrics bool    `mapstructure:"guard_metrics" doc:"Ask for a token with the scope read at /metrics too."`
	Insecure     bool    `mapstructure:"insecure" reload:"true" doc:"Let the control plane listen beyond loopback and ask nobody for a token or a certificate."`
}

// Token lets its bearer call the control plane.
type Token struct {
	Name   string   `mapstructure:"name"`
	Token  string   `mapstructure:"token"`
	Scopes []string `mapstructure:"scopes"`
}

// Auth sets who may hold a stream.
type Auth struct {
	Anonymous           bool          `mapstructure:"anonymous" reload:"true" doc:"Let browsers without a subscriber token hold a stream, which gets broadcasts, and the topics of auth.anonymous_topics that it asks for."`
	AnonymousTopics     []string      `mapstructure:"anonymous_topics" reload:"true" doc:"Topics and patterns that streams without a subscriber token may subscribe to. In a pattern, * is any one token between dots, and > at the end is one or more. What a token allows is in its topics."`
	Cookie              string        `mapstructure:"cookie" reload:"true" empty:"true" doc:"Name of the cookie in which a subscriber token may come. Empty reads no cookie."`
	QueryToken          bool          `mapstructure:"query_token" reload:"true" doc:"Let a subscriber token come in the query, as access_token."`
	CallbackURL         string        `mapstructure:"callback_url" reload:"true" doc:"URL of the application that is asked who opens a stream, instead of a token. Empty asks nobody."`
	CallbackHeaders     []string      `mapstructure:"callback_headers" reload:"true" doc:"Names of the request's headers that the application is shown, beside cookies, query, address and origin."`
	CallbackTimeout     time.Duration `mapstructure:"callback_timeout" reload:"true" doc:"How long the application may take to answer; after it the browser is told to come back."`
	CallbackCache       time.Duration `mapstructure:"callback_cache" reload:"true" doc:"How long an answer of the application counts for requests that are the same. 0s asks each time."`
	CallbackConcurrency int           `mapstructure:"callback_concurrency" reload:"true" doc:"Questions that the application may have to answer at once; others wait."`
	HTTPProxy           string        `mapstructure:"http_proxy" reload:"true" doc:"Proxy for requests to auth.callback_url, cookies included, and to auth.jwt.jwks_url: a URL that begins with http://, https://, socks5:// or socks5h://, or the word environment for HTTP_PROXY, HTTPS_PROXY and NO_PROXY. Empty connects directly, whatever those variables hold." secret:"true"`
	JWT                 JWT           `mapstructure:"jwt"`
}

// JWT sets how subscriber tokens are signed and checked.
type JWT struct {
	HMACSecret    string `mapstructure:"hmac_secret" reload:"true" doc:"Secret with which subscriber tokens are signed and checked (HS256; also HS384 from 48 bytes and HS512 from 64 bytes on), at least 32 bytes. Only with it the daemon signs tokens itself." secret:"true"`
	PublicKeyFile string `mapstructure:"public_key_file" reload:"true" doc:"PEM file of public keys or certificates that subscriber tokens are checked with: RSA (RS256 to PS512), ECDSA (ES256, ES384, ES512), Ed25519 (EdDSA). It is read again when it changes."`
	JWKSURL       string `mapstructure:"jwks_url" reload:"true" doc:"URL or file of the JSON Web Key Set that subscriber tokens are checked with, by their kid. It is fetched again every 5m, and when a token has a kid that is not there."`
	Issuer        string `mapstructure:"issuer" reload:"true" doc:"The iss that a subscriber token must have. Empty asks for none."`
	Audience      string `mapstructure:"audience" reload:"true" doc:"The aud that a subscriber token must have. Empty asks for none."`
}

// Broker sets how events get to streams.
type Broker struct {
	Shards       int    `mapstructure:"shards" doc:"Parts that streams are spread over, each served by a goroutine of its own, 1024 at most. 0 is one for each CPU."`
	QueueBytes   Bytes  `mapstructure:"queue_bytes" reload:"true" doc:"Bytes that may wait for one stream."`
	SlowConsumer string `mapstructure:"slow_consumer" reload:"true" choices:"disconnect drop-oldest conflate" doc:"What befalls a stream whose queue is full: disconnect ends it, drop-oldest forgets the events that have waited longest and tells the client so, conflate keeps only the newest event of each conflate_key, and ends the stream if that is not enough."`
}

// What broker.slow_consumer can be.
const (
	SlowDisconnect = "disconnect"
	SlowDropOldest = "drop-oldest"
	SlowConflate   = "conflate"
)

// History sets the log of recent events, out of which clients that come back
// get what they missed. An event leaves it when any of the bounds is passed.
type History struct {
	MaxEvents         int           `mapstructure:"max_events" reload:"true" doc:"Events kept at most. 0 disables the history: a client that reconnects before its first event is not told that it missed any. With 1 every client is told."`
	MaxBytes          Bytes         `mapstructure:"max_bytes" reload:"true" doc:"Memory that events are kept in at most, their index included."`
	MaxAge            time.Duration `mapstructure:"max_age" reload:"true" doc:"How long an event is kept at most. 0 is no bound."`
	IdempotencyWindow time.Duration `mapstructure:"idempotency_window" reload:"true" doc:"How long an idempotency_key is remembered, so that the same message under it is not sent again. Of more than 65536 keys the oldest are forgotten sooner."`
}

// Cluster sets whether daemons are one, and how they find each other.
type Cluster struct {
	Mode            string     `mapstructure:"mode" choices:"off embedded nats" doc:"Whether daemons are a cluster: off; embedded, with a NATS server inside each; or nats, over NATS servers that are there already."`
	Name            string     `mapstructure:"name" doc:"The cluster's name, the same on all its nodes. With cluster.mode nats it is that of the stream, and what the cluster's subjects begin with."`
	Addr            string     `mapstructure:"addr" doc:"Address that other nodes connect to, with cluster.mode embedded. On other than a loopback address it needs cluster.secret or cluster.tls."`
	Advertise       string     `mapstructure:"advertise" doc:"HOST:PORT that nodes tell each other of this one, with cluster.mode embedded. Empty is the address that its connections come from and the port of cluster.addr; behind NAT and published ports of containers that is another one."`
	Peers           []string   `mapstructure:"peers" doc:"Where nodes are found, with cluster.mode embedded: HOST:PORT of each, this one's own too or not; or a name that resolves to all, which is resolved again every 5s. Empty is a node alone, whose log survives a restart."`
	Dir             string     `mapstructure:"dir" doc:"Directory of this node's own for the cluster's log, with cluster.mode embedded."`
	Replicas        int        `mapstructure:"replicas" doc:"Nodes that hold the cluster's log, 1 to 5; most of them must be there for anything to be published. 0 is 3 where there are that many nodes, else 1."`
	Sync            bool       `mapstructure:"sync" doc:"Write the cluster's log through to the disk before a message is acknowledged, with cluster.mode embedded. Without, a node whose power fails may lose the last seconds, which matters where most nodes fail at once."`
	Secret          string     `mapstructure:"secret" doc:"What nodes know each other by, the same on all, with cluster.mode embedded." secret:"true"`
	TLS             ClusterTLS `mapstructure:"tls"`
	URL             string     `mapstructure:"url" doc:"URLs of NATS servers with JetStream, parted by commas, with cluster.mode nats." secret:"true"`
	CredentialsFile string     `mapstructure:"credentials_file" doc:"File of credentials (.creds) for NATS servers, with cluster.mode nats."`
}

// ClusterTLS names a node's certificate, and who signs those of the others.
type ClusterTLS struct {
	CertFile string `mapstructure:"cert_file" doc:"PEM file of the certificate chain that this node shows other nodes, or NATS servers. Empty is plain text between nodes."`
	KeyFile  string `mapstructure:"key_file" doc:"PEM file of the certificate's private key."`
	CAFile   string `mapstructure:"ca_file" doc:"PEM file of the authorities one of which must have signed the other side's certificate."`
}

// What cluster.mode can be.
const (
	ClusterOff      = "off"
	ClusterEmbedded = "embedded"
	ClusterNATS     = "nats"
)

// Log sets what the daemon writes to its standard error.
type Log struct {
	Level  string `mapstructure:"level" reload:"true" choices:"debug info warn error" doc:"What is logged: debug, info, warn or error, and all that is worse."`
	Format string `mapstructure:"format" choices:"text json" doc:"How it is logged: text or json."`
}

// Drain sets how the daemon ends.
type Drain struct {
	Timeout time.Duration `mapstructure:"timeout" reload:"true" doc:"How long the daemon may take to end, once told to, at most. Streams are ended one after the other over four fifths of it, or at 200 a second where that is less; then calls get 2s to finish."`
}

// Debug sets what there is to find faults with, under /debug/ of the REST
// listener.
type Debug struct {
	FlightRecorder bool `mapstructure:"flight_recorder" doc:"Record what the runtime does, so that /debug/flight of the REST listener has the last seconds, for go tool trace. It costs a little CPU, and up to 16MiB."`
}

// Defaults returns the Config of a daemon about which nothing is set.
func Defaults() Config {
	return Config{
		SSE: SSE{
			Addr:         ":8080",
			Path:         "/events",
			Heartbeat:    15 * time.Second,
			Retry:        3 * time.Second,
			WriteTimeout: 30 * time.Second,
			ProxyHeader:  ssehttp.ForwardedFor,
			Engine:       EngineAuto,
		},
		GRPC: GRPC{Addr: "127.0.0.1:9090", SocketMode: 0o660},
		REST: REST{Addr: "127.0.0.1:9091", SocketMode: 0o660},
		Auth: Auth{
			Anonymous:           true,
			Cookie:              "peald_token",
			QueryToken:          true,
			CallbackTimeout:     5 * time.Second,
			CallbackCache:       10 * time.Second,
			CallbackConcurrency: 64,
		},
		Broker: Broker{
			QueueBytes:   1 << 20,
			SlowConsumer: SlowDisconnect,
		},
		History: History{
			MaxEvents:         10_000,
			MaxBytes:          64 << 20,
			MaxAge:            10 * time.Minute,
			IdempotencyWindow: 5 * time.Minute,
		},
		Cluster: Cluster{Mode: ClusterOff, Name: "peald", Addr: ":6222", Sync: true},
		Log:     Log{Level: "info", Format: "text"},
		Drain:   Drain{Timeout: 30 * time.Second},
	}
}
