package daemon

import (
	"log/slog"
	"time"

	"github.com/peald/peald/ssehttp"
)

// Config holds the settings of a daemon. The zero Config isn't valid: start from
// [Defaults].
//
// Flags, environment variables, configuration files and the reference are derived from
// the fields' tags. The mapstructure tags, joined by dots, form a setting's key, such
// as "sse.tls.cert_file". The other tags are:
//
//   - doc: the help text
//   - choices: the words that the setting accepts
//   - secret: the value is never printed
//   - reload: the setting can change while the daemon runs
//   - empty: an empty string in a file is a value, whereas for other settings it means
//     the default
type Config struct {
	SSE     SSE     `mapstructure:"sse"`
	GRPC    GRPC    `mapstructure:"grpc"`
	REST    REST    `mapstructure:"rest"`
	Control Control `mapstructure:"control"`
	Auth    Auth    `mapstructure:"auth"`
	Broker  Broker  `mapstructure:"broker"`
	History History `mapstructure:"history"`
	Retain  Retain  `mapstructure:"retain"`

	Topics []TopicPolicy `mapstructure:"topics" reload:"true" doc:"Policies for topics, which override the settings above. The first policy whose pattern matches a topic applies to it, and no other. In a flag or a variable, this is a JSON list."`

	Hooks   []Hook   `mapstructure:"hooks" reload:"true" doc:"Webhooks: receivers of events about users that go online and offline, and topics that get their first and lose their last subscriber. All nodes of a cluster must have the same. In a flag or a variable, this is a JSON list." secret:"true"`
	Sources []Source `mapstructure:"sources" reload:"true" secret:"true" doc:"Where the daemon reads messages from, such as a table in PostgreSQL. Each source has a name, its settings, and a map from records to messages. All nodes of a cluster should have the same; one at a time reads each source. In a flag or a variable, this is a JSON list."`

	Cluster Cluster `mapstructure:"cluster"`
	Log     Log     `mapstructure:"log"`
	Drain   Drain   `mapstructure:"drain"`
	Debug   Debug   `mapstructure:"debug"`
}

// SSE configures the listener that browsers connect to, and their streams.
type SSE struct {
	Addr                  string        `mapstructure:"addr" doc:"Address that browsers connect to. With --demo, the default is 127.0.0.1:8080."`
	Path                  string        `mapstructure:"path" doc:"Path of the event stream."`
	Heartbeat             time.Duration `mapstructure:"heartbeat" reload:"true" doc:"How long a stream may be idle before it gets a heartbeat, which keeps proxies from closing it. At least 1s."`
	Retry                 time.Duration `mapstructure:"retry" reload:"true" doc:"How long browsers wait before they reconnect. Each browser gets a slightly different time, so that they don't all reconnect at once."`
	WriteTimeout          time.Duration `mapstructure:"write_timeout" reload:"true" doc:"How long a socket may accept no bytes before its stream is closed."`
	MaxAge                time.Duration `mapstructure:"max_age" reload:"true" doc:"Age at which a stream is closed gracefully, so that its client reconnects and resumes, perhaps at another node. Each stream gets up to a tenth more or less. From 1s to 720h; 0s means no limit."`
	AllowedOrigins        []string      `mapstructure:"allowed_origins" reload:"true" doc:"Origins of pages on other sites that may read the stream, such as https://example.com or https://*.example.com; * means any origin, but without cookies. Pages from the listener's own origin may always read it."`
	AllowedHeaders        []string      `mapstructure:"allowed_headers" reload:"true" doc:"Names of request headers that pages from sse.allowed_origins may send, besides Last-Event-ID, Authorization, Cache-Control, traceparent, tracestate, baggage and sentry-trace."`
	MaxConnections        int           `mapstructure:"max_connections" reload:"true" doc:"Maximum number of streams; further clients are asked to retry later. 0 means as many as the file descriptor limit allows."`
	MaxConnectionsPerUser int           `mapstructure:"max_connections_per_user" reload:"true" doc:"Maximum number of streams per user; further ones are rejected. 0 means no limit."`
	MaxConnectionsPerIP   int           `mapstructure:"max_connections_per_ip" reload:"true" doc:"Maximum number of streams from one IPv4 address or IPv6 /64 network; further ones are rejected. 0 means no limit. Behind a proxy, this requires sse.trusted_proxies."`
	MaxConnectsPerSecond  int           `mapstructure:"max_connects_per_second" reload:"true" doc:"Maximum number of streams that all clients together may open per second; further clients are asked to retry later. 0 means no limit."`
	TrustedProxies        []string      `mapstructure:"trusted_proxies" reload:"true" doc:"Networks and addresses of proxies, such as 10.0.0.0/8, that are trusted to report their clients' addresses."`
	ProxyHeader           string        `mapstructure:"proxy_header" reload:"true" choices:"X-Forwarded-For Forwarded" doc:"Header in which trusted proxies report their clients' addresses: X-Forwarded-For, or Forwarded (RFC 7239). The other header is ignored."`
	ProxyProtocol         bool          `mapstructure:"proxy_protocol" reload:"true" doc:"Require trusted proxies to begin each connection with a PROXY protocol header, version 1 or 2."`
	Compression           string        `mapstructure:"compression" reload:"true" choices:"auto off" doc:"Whether streams are compressed: auto uses gzip for clients that accept it, and compresses each large event once for all of them; off disables compression. A change applies to new streams."`
	Client                bool          `mapstructure:"client" reload:"true" doc:"Serve the JavaScript client at /peald.js, so that pages can import it from here."`
	Engine                string        `mapstructure:"engine" choices:"auto epoll nethttp" doc:"How streams are served: epoll, available only on Linux, uses by far the least memory, because it keeps connections as bare descriptors, over HTTP/1.1 and HTTP/2, with or without TLS 1.3; nethttp uses Go's net/http with one goroutine per stream; auto is epoll where available. TLS 1.2 always uses net/http."`
	ReusePort             bool          `mapstructure:"reuse_port" doc:"Allow another daemon run by the same user to listen on all three addresses at the same time (SO_REUSEPORT), so that it accepts connections before this one shuts down. Linux only, and not with socket files."`
	TLS                   TLS           `mapstructure:"tls"`
}

// Values of sse.compression.
const (
	CompressionAuto = "auto"
	CompressionOff  = "off"
)

// Values of sse.engine.
const (
	EngineAuto    = "auto"
	EngineEpoll   = "epoll"
	EngineNetHTTP = "nethttp"
)

// TLS configures a server's certificate.
type TLS struct {
	CertFile string `mapstructure:"cert_file" doc:"PEM file with the certificate chain. Empty means plain text."`
	KeyFile  string `mapstructure:"key_file" doc:"PEM file with the certificate's private key."`
}

// GRPC configures the gRPC listener of the control plane.
type GRPC struct {
	Addr       string    `mapstructure:"addr" doc:"Address of the gRPC listener: HOST:PORT, or unix:PATH for a socket file, such as unix:/run/peald.sock. Unless it is a loopback address or a socket file, it requires control.tokens, grpc.tls.client_ca_file or control.insecure."`
	SocketMode FileMode  `mapstructure:"socket_mode" doc:"Permissions of the socket file, if grpc.addr is one, as a string of octal digits. Anyone who can write to the file may call the control plane."`
	TLS        MutualTLS `mapstructure:"tls"`
}

// MutualTLS configures a server's certificate, and which client certificates it
// accepts.
type MutualTLS struct {
	CertFile     string `mapstructure:"cert_file" doc:"PEM file with the certificate chain. Empty means plain text."`
	KeyFile      string `mapstructure:"key_file" doc:"PEM file with the certificate's private key."`
	ClientCAFile string `mapstructure:"client_ca_file" doc:"PEM file with the certificate authorities that may sign clients' certificates. If it is set, clients must send a certificate."`
}

// REST configures the REST listener of the control plane.
type REST struct {
	Addr       string   `mapstructure:"addr" doc:"Address of the listener for REST, metrics and health: HOST:PORT, or unix:PATH for a socket file. The listener has no TLS, so tokens are sent in plain text: beyond loopback, put a TLS proxy in front of it. Unless it is a loopback address or a socket file, it requires control.tokens or control.insecure."`
	SocketMode FileMode `mapstructure:"socket_mode" doc:"Permissions of the socket file, if rest.addr is one, as a string of octal digits."`
}

// Control configures who may call the control plane.
type Control struct {
	Tokens       []Token `mapstructure:"tokens" reload:"true" doc:"Tokens that callers must send, unless they have a client certificate (grpc.tls.client_ca_file). Each has a name, which is logged, and scopes: publish, read, data, tokens, admin; without scopes it has all of them. If the list is empty, no token is required." secret:"true"`
	RateLimit    int     `mapstructure:"rate_limit" reload:"true" doc:"Calls that each token or certificate name may make per second, which is also the maximum burst. Callers without a name share one limit. Each message in a batch counts as a call. So does each message in a PublishStream, but it waits instead of being rejected. 0 means no limit."`
	GuardMetrics bool    `mapstructure:"guard_metrics" doc:"Require a token with the read scope for /metrics too."`
	Insecure     bool    `mapstructure:"insecure" reload:"true" doc:"Allow the control plane to listen beyond loopback without requiring a token or a certificate."`
}

// Token is a credential for calling the control plane.
type Token struct {
	Name   string   `mapstructure:"name"`
	Token  string   `mapstructure:"token"`
	Scopes []string `mapstructure:"scopes"`
}

// Auth configures who may open a stream.
type Auth struct {
	Anonymous           bool          `mapstructure:"anonymous" reload:"true" doc:"Allow streams without a subscriber token. They get broadcasts, and the topics in auth.anonymous_topics that they subscribe to."`
	AnonymousTopics     []string      `mapstructure:"anonymous_topics" reload:"true" doc:"Topics and patterns that streams without a subscriber token may subscribe to. In a pattern, * matches one token between dots, and > at the end matches one or more. Streams with a token may subscribe to the topics that their token lists."`
	Cookie              string        `mapstructure:"cookie" reload:"true" empty:"true" doc:"Name of the cookie that may hold a subscriber token. If it is empty, cookies are ignored."`
	QueryToken          bool          `mapstructure:"query_token" reload:"true" doc:"Accept a subscriber token in the query parameter access_token."`
	CallbackURL         string        `mapstructure:"callback_url" reload:"true" doc:"URL of your application, which identifies the user of each new stream in place of a token. If it is empty, tokens are used."`
	CallbackHeaders     []string      `mapstructure:"callback_headers" reload:"true" doc:"Names of request headers that are passed to the application in addition to the cookies, query, address and origin."`
	CallbackTimeout     time.Duration `mapstructure:"callback_timeout" reload:"true" doc:"How long the application may take to answer; after that, the browser is asked to retry."`
	CallbackCache       time.Duration `mapstructure:"callback_cache" reload:"true" doc:"How long an answer from the application is reused for identical requests. 0s asks every time."`
	CallbackConcurrency int           `mapstructure:"callback_concurrency" reload:"true" doc:"Maximum number of concurrent requests to the application; others wait."`
	HTTPProxy           string        `mapstructure:"http_proxy" reload:"true" doc:"Proxy for requests to auth.callback_url, cookies included, and to auth.jwt.jwks_url: a URL that begins with http://, https://, socks5:// or socks5h://, or environment to use HTTP_PROXY, HTTPS_PROXY and NO_PROXY. If it is empty, the daemon connects directly and ignores those variables." secret:"true"`
	JWT                 JWT           `mapstructure:"jwt"`
}

// JWT configures how subscriber tokens are signed and verified.
type JWT struct {
	HMACSecret    string `mapstructure:"hmac_secret" reload:"true" doc:"Secret that signs and verifies subscriber tokens (HS256), at least 32 bytes. With at least 48 bytes, it also verifies HS384; with at least 64, HS512. The daemon can sign tokens only if this is set." secret:"true"`
	PublicKeyFile string `mapstructure:"public_key_file" reload:"true" doc:"PEM file with public keys or certificates that verify subscriber tokens: RSA (RS256 to PS512), ECDSA (ES256, ES384, ES512), Ed25519 (EdDSA). It is read again when it changes."`
	JWKSURL       string `mapstructure:"jwks_url" reload:"true" doc:"URL or file of the JSON Web Key Set that verifies subscriber tokens. The token's kid, if it has one, selects the key. It is fetched again every 5m, and when a token has an unknown kid."`
	Issuer        string `mapstructure:"issuer" reload:"true" doc:"The iss claim that subscriber tokens must have. If it is empty, any is accepted."`
	Audience      string `mapstructure:"audience" reload:"true" doc:"The aud claim that subscriber tokens must have. If it is empty, any is accepted."`
}

// hasKey reports whether there is a key to verify tokens with.
func (j JWT) hasKey() bool { return j.HMACSecret != "" || j.PublicKeyFile != "" || j.JWKSURL != "" }

// Broker configures how events are delivered to streams.
type Broker struct {
	Shards       int    `mapstructure:"shards" doc:"Number of shards that streams are spread over; each shard has its own goroutine. At most 1024. 0 means one per CPU."`
	QueueBytes   Bytes  `mapstructure:"queue_bytes" reload:"true" doc:"Bytes that may be queued for one stream, at most 1GiB."`
	SlowConsumer string `mapstructure:"slow_consumer" reload:"true" choices:"disconnect drop-oldest conflate" doc:"What happens to a stream whose queue is full: disconnect closes it; drop-oldest drops the events that have waited longest and notifies the client; conflate keeps only the newest event for each conflate_key, and closes the stream if that isn't enough."`
}

// Values of broker.slow_consumer.
const (
	SlowDisconnect = "disconnect"
	SlowDropOldest = "drop-oldest"
	SlowConflate   = "conflate"
)

// Retain limits retained values.
type Retain struct {
	MaxEvents int   `mapstructure:"max_events" reload:"true" doc:"Maximum number of retained values. Messages that would exceed it are rejected. 0 allows none. All nodes of a cluster must have the same limits."`
	MaxBytes  Bytes `mapstructure:"max_bytes" reload:"true" doc:"Maximum memory for retained values, including about 600 bytes of overhead for each. Messages that would exceed it are rejected."`
}

// History configures the history of recent events. Clients that reconnect get the
// events that they missed from it. When it is full, the audience with the largest share
// of it loses its oldest event.
type History struct {
	MaxEvents         int           `mapstructure:"max_events" reload:"true" doc:"Maximum number of events kept. 0 disables the history: a client that loses its connection before its first event isn't notified of events that it misses. 1 keeps almost no history but still notifies every client."`
	MaxBytes          Bytes         `mapstructure:"max_bytes" reload:"true" doc:"Maximum memory for events, including their index."`
	MaxAge            time.Duration `mapstructure:"max_age" reload:"true" doc:"Maximum age of the events kept. 0 means no limit."`
	IdempotencyWindow time.Duration `mapstructure:"idempotency_window" reload:"true" doc:"How long an idempotency_key is remembered, so that repeating a message with that key doesn't send it again. If there are more than 65536 keys, the oldest are forgotten sooner."`
}

// Cluster configures whether the daemon is part of a cluster, and how nodes find each
// other.
type Cluster struct {
	Mode            string     `mapstructure:"mode" choices:"off embedded nats" doc:"Whether the daemon is part of a cluster: off; embedded, with a NATS server inside each daemon; or nats, with existing NATS servers."`
	Name            string     `mapstructure:"name" doc:"Name of the cluster, the same on all nodes. With cluster.mode nats it is also the name of the stream and the prefix of the cluster's subjects."`
	Addr            string     `mapstructure:"addr" doc:"Address that other nodes connect to, with cluster.mode embedded. Unless it is a loopback address, it requires cluster.secret or cluster.tls. Without cluster.peers, it is not used."`
	Advertise       string     `mapstructure:"advertise" doc:"HOST:PORT at which other nodes reach this one, with cluster.mode embedded. The default is the address that its connections come from, with the port of cluster.addr. Set it if the node is behind NAT or uses published container ports."`
	Peers           []string   `mapstructure:"peers" doc:"Where to find the nodes, with cluster.mode embedded: the HOST:PORT of each node, with or without this one; or HOST:PORT with a name that resolves to all nodes, which is resolved again every 5s. If it is empty, the node is standalone, and its event log survives a restart."`
	Dir             string     `mapstructure:"dir" doc:"Directory for the event log, used only by this node, with cluster.mode embedded."`
	Replicas        int        `mapstructure:"replicas" doc:"Number of nodes that store the event log, 1 to 5; publishing requires a majority of them. 0 means 3 if there are that many nodes, otherwise 1."`
	Sync            bool       `mapstructure:"sync" doc:"Sync the event log to disk before a message is acknowledged, with cluster.mode embedded. If it is off, a node that loses power may lose the last few seconds of the log, which matters if most nodes fail at once."`
	Secret          string     `mapstructure:"secret" doc:"Secret that nodes use to authenticate each other, the same on all nodes, with cluster.mode embedded." secret:"true"`
	TLS             ClusterTLS `mapstructure:"tls"`
	URL             string     `mapstructure:"url" doc:"URLs of NATS servers with JetStream, separated by commas, with cluster.mode nats." secret:"true"`
	CredentialsFile string     `mapstructure:"credentials_file" doc:"Credentials file (.creds) for connecting to the NATS servers, with cluster.mode nats."`
}

// ClusterTLS configures a node's certificate, and the authorities that sign the
// certificates of its peers.
type ClusterTLS struct {
	CertFile string `mapstructure:"cert_file" doc:"PEM file with the certificate chain that this node sends to other nodes, or to NATS servers. Empty means plain text between nodes."`
	KeyFile  string `mapstructure:"key_file" doc:"PEM file with the certificate's private key."`
	CAFile   string `mapstructure:"ca_file" doc:"PEM file with the certificate authorities, one of which must have signed the peer's certificate."`
}

// Values of cluster.mode.
const (
	ClusterOff      = "off"
	ClusterEmbedded = "embedded"
	ClusterNATS     = "nats"
)

// Log configures what the daemon logs to standard error.
type Log struct {
	Level  string `mapstructure:"level" reload:"true" choices:"debug info warn error" doc:"Minimum level that is logged: debug, info, warn or error."`
	Format string `mapstructure:"format" choices:"text json" doc:"Format of the log: text or json."`
}

// Threshold returns the minimum level that is logged.
func (l Log) Threshold() slog.Level {
	var level slog.Level
	_ = level.UnmarshalText([]byte(l.Level)) // Validate has already checked it.

	return level
}

// Drain configures how the daemon shuts down.
type Drain struct {
	Timeout time.Duration `mapstructure:"timeout" reload:"true" doc:"Maximum duration of a shutdown. Streams are closed one after another over four fifths of this time, or at 200 a second if that is faster; after that, calls get 2s to finish."`
}

// Debug configures debugging aids under /debug/ on the REST listener.
type Debug struct {
	FlightRecorder bool `mapstructure:"flight_recorder" doc:"Record runtime events, so that /debug/flight on the REST listener returns the last few seconds for go tool trace. It costs a little CPU and up to 16MiB."`
}

// Defaults returns a Config with the default values.
func Defaults() Config {
	return Config{
		SSE: SSE{
			Addr:         ":8080",
			Path:         "/events",
			Heartbeat:    15 * time.Second,
			Retry:        3 * time.Second,
			WriteTimeout: 30 * time.Second,
			ProxyHeader:  ssehttp.ForwardedFor,
			Compression:  CompressionAuto,
			Client:       true,
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
		Retain:  Retain{MaxEvents: 100_000, MaxBytes: 64 << 20},
		Cluster: Cluster{Mode: ClusterOff, Name: "peald", Addr: ":6222", Sync: true},
		Log:     Log{Level: "info", Format: "text"},
		Drain:   Drain{Timeout: 30 * time.Second},
	}
}
