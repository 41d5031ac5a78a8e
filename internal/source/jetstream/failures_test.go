package jetstream_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/jetstream"
	"github.com/peald/peald/internal/sourcetest"
	"github.com/peald/peald/internal/testbed"
)

const password = "a-secret-password"

func TestFailuresAreNamed(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "peald", Password: password},
			{Username: "limited", Password: password, Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.CONSUMER.CREATE.>"}}}},
		}
	})
	js := connect(t, s, nats.UserInfo("peald", password))
	createStream(t, js)
	for name, change := range map[string]func(*natsjs.ConsumerConfig){
		"unpinned":     func(c *natsjs.ConsumerConfig) { c.PriorityPolicy, c.PriorityGroups = natsjs.PriorityPolicyNone, nil },
		"gives-up":     func(c *natsjs.ConsumerConfig) { c.MaxDeliver = 5 },
		"no-ack":       func(c *natsjs.ConsumerConfig) { c.AckPolicy = natsjs.AckNonePolicy },
		"headers-only": func(c *natsjs.ConsumerConfig) { c.HeadersOnly = true },
		"filtered":     func(c *natsjs.ConsumerConfig) { c.FilterSubject = "orders.x" },
	} {
		cfg := natsjs.ConsumerConfig{Durable: name, AckPolicy: natsjs.AckExplicitPolicy, PriorityPolicy: natsjs.PriorityPolicyPinned, PriorityGroups: []string{"any"}}
		change(&cfg)
		if cfg.AckPolicy == natsjs.AckNonePolicy {
			cfg.PriorityPolicy, cfg.PriorityGroups = natsjs.PriorityPolicyNone, nil
		}
		if _, err := js.CreateConsumer(t.Context(), stream, cfg); err != nil {
			t.Fatalf("create consumer %s: %v", name, err)
		}
	}
	if _, err := js.CreatePushConsumer(t.Context(), stream, natsjs.ConsumerConfig{Durable: "push", DeliverSubject: "here"}); err != nil {
		t.Fatal(err)
	}
	closed, err := testbed.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	address := s.Addr().String()
	use := func(name string) func(*jetstream.Config) { return func(c *jetstream.Config) { c.Consumer = name } }

	for name, test := range map[string]struct {
		change func(*jetstream.Config)
		want   []string
	}{
		"no server":        {func(c *jetstream.Config) { c.URL = "nats://u:" + password + "@" + closed }, []string{"connect to " + closed}},
		"wrong password":   {func(c *jetstream.Config) { c.URL = withUser(t, s.ClientURL(), "peald", password+"x") }, []string{"connect to " + address, "Authorization"}},
		"no credentials":   {func(c *jetstream.Config) { c.URL = s.ClientURL() }, []string{"connect to " + address, "Authorization"}},
		"no file":          {func(c *jetstream.Config) { c.CredentialsFile = "/nonexistent.creds" }, []string{"credentials_file", "/nonexistent.creds"}},
		"plain server":     {func(c *jetstream.Config) { c.TLS.Enabled = true }, []string{"connect to " + address, "secure"}},
		"unknown stream":   {func(c *jetstream.Config) { c.Stream = "INVOICES" }, []string{`stream "INVOICES"`, "not found"}},
		"unknown domain":   {func(c *jetstream.Config) { c.Domain = "hub" }, []string{"stream", "no responders"}},
		"no right":         {func(c *jetstream.Config) { c.URL = withUser(t, s.ClientURL(), "limited", password); c.Consumer = "new" }, []string{`consumer "new"`, "$JS.API.CONSUMER.CREATE"}},
		"push consumer":    {use("push"), []string{`consumer "push"`, "not a pull consumer"}},
		"unpinned":         {use("unpinned"), []string{`consumer "unpinned"`, "priority_policy is none", "want pinned_client"}},
		"gives up":         {use("gives-up"), []string{"max_deliver is 5; want -1"}},
		"no ack":           {use("no-ack"), []string{"ack_policy is none; want explicit"}},
		"headers only":     {use("headers-only"), []string{"headers_only is true; want false"}},
		"another filter":   {func(c *jetstream.Config) { c.Consumer, c.Subjects = "filtered", []string{"orders.y"} }, []string{`filter_subjects is ["orders.x"]; want ["orders.y"]`}},
		"no dead letters":  {func(c *jetstream.Config) { c.DeadLetter = "dead.orders" }, []string{`dead-letter subject "dead.orders"`, "no stream"}},
		"dead letter loop": {func(c *jetstream.Config) { c.DeadLetter = "orders.dead" }, []string{`dead-letter subject "orders.dead"`, "deliver it again"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p sourcetest.Publisher
			n := sourcetest.Start(t, "a", &p, from(withUser(t, s.ClientURL(), "peald", password), func(c *jetstream.Config) { c.Consumer = "own-" + strings.ReplaceAll(name, " ", "-") }, test.change))
			n.WaitForError(t, test.want...)
			if hasSecret(n, password) {
				t.Errorf("the log contains the password:\n%s", n.Log)
			}
		})
	}
}

// TestPermissions checks that the permissions in docs/sources.md suffice.
func TestPermissions(t *testing.T) {
	t.Parallel()
	publishing := []string{
		"$JS.API.CONSUMER.INFO.ORDERS.peald", "$JS.API.CONSUMER.CREATE.ORDERS.peald", "$JS.API.CONSUMER.CREATE.ORDERS.peald.>",
		"$JS.API.CONSUMER.MSG.NEXT.ORDERS.peald", "$JS.ACK.ORDERS.peald.>",
		"dead.orders", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.ORDERS", "$JS.API.CONSUMER.UNPIN.ORDERS.peald",
	}
	s := startServer(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "admin", Password: password}, {Username: "peald", Password: password, Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: publishing}, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
		}}}
	})
	js := connect(t, s, nats.UserInfo("admin", password))
	createStream(t, js)
	createStream(t, js, func(c *natsjs.StreamConfig) { c.Name, c.Subjects = "DEAD", []string{"dead.>"} })
	publish(t, js, "orders.a", "one")
	publish(t, js, "orders.a", "not UTF-8: \xff")

	var p sourcetest.Publisher
	src := from(withUser(t, s.ClientURL(), "peald", password), func(c *jetstream.Config) { c.DeadLetter, c.Subjects = "dead.orders", []string{"orders.a"} })
	a := sourcetest.Start(t, "a", &p, src)
	p.WaitFor(t, 1)
	waitUntilAcknowledged(t, js)
	b := sourcetest.Start(t, "b", &p, src)
	b.WaitForState(t, source.StateStandby)
	a.Stop()
	publish(t, js, "orders.a", "two")
	p.WaitFor(t, 2)
	for _, n := range []*sourcetest.Node{a, b} {
		if n.Status().Failures > 0 || len(n.Log.With("NATS error")) > 0 {
			t.Errorf("a permission is missing:\n%s", n.Log)
		}
	}
}

func TestServerWithoutJetStream(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(o *server.Options) { o.JetStream = false })
	var p sourcetest.Publisher
	sourcetest.Start(t, "a", &p, from(s.ClientURL())).WaitForError(t, "stream")
}

func TestTLS(t *testing.T) {
	t.Parallel()
	certificate, other := testbed.NewCertificate(t), testbed.NewCertificate(t)
	s := startServer(t, func(o *server.Options) {
		config, err := server.GenTLSConfig(&server.TLSConfigOpts{CertFile: certificate.CertFile, KeyFile: certificate.KeyFile, CaFile: other.CertFile, Verify: true})
		if err != nil {
			t.Fatal(err)
		}
		o.TLSConfig = config
	})
	js := connect(t, s, nats.RootCAs(certificate.CertFile), nats.ClientCert(other.CertFile, other.KeyFile))
	createStream(t, js)
	publish(t, js, "orders.1", "one")

	var p sourcetest.Publisher
	trust := source.TLS{CAFile: certificate.CertFile, CertFile: other.CertFile, KeyFile: other.KeyFile}
	sourcetest.Start(t, "good", &p, from(s.ClientURL(), func(c *jetstream.Config) { c.TLS = trust }))
	p.WaitFor(t, 1)

	sourcetest.Start(t, "bad", &p, from(s.ClientURL(), func(c *jetstream.Config) { c.TLS.CAFile = other.CertFile })).
		WaitForError(t, "connect to "+s.Addr().String(), "unknown authority")
}

func TestRejectedMessagesAreStored(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(o *server.Options) { o.MaxPayload = 8 << 20 })
	js := connect(t, s)
	createStream(t, js)
	createStream(t, js, func(c *natsjs.StreamConfig) { c.Name, c.Subjects, c.MaxMsgSize = "DEAD", []string{"dead.>"}, 100_000 })
	m := nats.NewMsg("orders.1")
	m.Data = []byte("not UTF-8: \xff")
	m.Header.Set("Trace", "abc")
	m.Header.Set("Nats-Expected-Stream", stream)
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	publish(t, js, "orders.1", strings.Repeat("x", broker.MaxData+1))
	publish(t, js, "orders.1", "good")

	var p sourcetest.Publisher
	n := sourcetest.Start(t, "a", &p, from(s.ClientURL(), func(c *jetstream.Config) { c.DeadLetter = "dead.orders" }))
	p.WaitFor(t, 1)
	waitUntilAcknowledged(t, js)
	if s := n.Status(); s.Rejected != 2 || s.Published != 1 {
		t.Errorf("%d messages are published and %d rejected, want 1 and 2", s.Published, s.Rejected)
	}

	dead, err := js.Stream(t.Context(), "DEAD")
	if err != nil {
		t.Fatal(err)
	}
	first, err := dead.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if string(first.Data) != string(m.Data) {
		t.Errorf("the dead letter is %q, want the rejected message", first.Data)
	}
	for name, want := range map[string]string{"Trace": "abc", "Peald-Source": "test", "Peald-Subject": "orders.1", "Peald-Stream": stream, "Peald-Sequence": "1"} {
		if got := first.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	if first.Header.Get("Peald-Error") == "" {
		t.Errorf("the dead letter has the headers %v, want the error too", first.Header)
	}

	second, err := dead.GetMsg(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if len(second.Data) != 0 || second.Header.Get("Peald-Data-Bytes") == "" {
		t.Errorf("the second dead letter has %d bytes and the headers %v, want only the size", len(second.Data), second.Header)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	set := func(change func(*jetstream.Config)) jetstream.Config {
		cfg := jetstream.Config{URL: "nats://127.0.0.1:4222", Stream: "ORDERS", Consumer: "peald"}
		change(&cfg)
		return cfg
	}

	for name, cfg := range map[string]jetstream.Config{
		"minimal": set(func(*jetstream.Config) {}),
		"everything": set(func(c *jetstream.Config) {
			c.URL, c.Domain, c.Start, c.DeadLetter = "tls://u:p@a:4222, wss://b", "hub", "new", "dead.orders"
			c.Subjects = []string{"orders.>", "invoices.*.paid"}
			c.TLS.Enabled = true
		}),
	} {
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v, want no error", name, err)
		}
	}

	for name, test := range map[string]struct {
		change func(*jetstream.Config)
		field  string
	}{
		"no URL":               {func(c *jetstream.Config) { c.URL = "" }, "nats.url"},
		"address":              {func(c *jetstream.Config) { c.URL = "secret:4222" }, "nats.url"},
		"one bad URL":          {func(c *jetstream.Config) { c.URL = "nats://a,http://secret" }, "nats.url"},
		"no stream":            {func(c *jetstream.Config) { c.Stream = "" }, "nats.stream"},
		"dots in stream":       {func(c *jetstream.Config) { c.Stream = "a.b" }, "nats.stream"},
		"no consumer":          {func(c *jetstream.Config) { c.Consumer = "" }, "nats.consumer"},
		"spaces in consumer":   {func(c *jetstream.Config) { c.Consumer = "a b" }, "nats.consumer"},
		"unknown start":        {func(c *jetstream.Config) { c.Start = "earliest" }, "nats.start"},
		"bad domain":           {func(c *jetstream.Config) { c.Domain = "a>" }, "nats.domain"},
		"bad subject":          {func(c *jetstream.Config) { c.Subjects = []string{"a..b"} }, "nats.subjects"},
		"> in the middle":      {func(c *jetstream.Config) { c.Subjects = []string{"a.>.b"} }, "nats.subjects"},
		"subject twice":        {func(c *jetstream.Config) { c.Subjects = []string{"a", "a"} }, "nats.subjects"},
		"dead letter pattern":  {func(c *jetstream.Config) { c.DeadLetter = "dead.*" }, "nats.dead_letter"},
		"certificate, no key":  {func(c *jetstream.Config) { c.TLS.CertFile = "c" }, "nats.tls.cert_file"},
		"control in subject":   {func(c *jetstream.Config) { c.Subjects = []string{"a\x00"} }, "nats.subjects"},
		"empty among subjects": {func(c *jetstream.Config) { c.Subjects = []string{""} }, "nats.subjects"},
	} {
		err := set(test.change).Validate()
		invalid, ok := errors.AsType[*source.SettingError](err)
		if !ok || invalid.Field != test.field || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want an error about %s without secrets", name, err, test.field)
		}
	}
}
