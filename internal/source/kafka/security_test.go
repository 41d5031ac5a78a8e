package kafka_test

import (
	"crypto/tls"
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/kafka"
	"github.com/peald/peald/internal/sourcetest"
	"github.com/peald/peald/internal/testbed"
)

const password = "a-secret-password"

// authenticate returns a change that sets the credentials.
func authenticate(mechanism, user, password string) func(*kafka.Config) {
	return func(cfg *kafka.Config) {
		cfg.SASL = kafka.SASL{Mechanism: mechanism, Username: user, Password: password}
	}
}

func TestAuthentication(t *testing.T) {
	t.Parallel()

	for _, mechanism := range []string{kafka.MechanismPlain, kafka.MechanismSCRAM256, kafka.MechanismSCRAM512} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			c := startBrokers(t, kfake.SeedTopics(1, topic), kfake.EnableSASL(),
				kfake.Superuser("PLAIN", "producer", "p"), kfake.Superuser(mechanism, "peald", password))
			produce(t, producer(t, c, kgo.SASL(plain.Auth{User: "producer", Pass: "p"}.AsMechanism())), &kgo.Record{Key: []byte("k"), Value: []byte("v")})

			var p sourcetest.Publisher
			good := sourcetest.Start(t, "good", &p, keyed(c, authenticate(mechanism, "peald", password)))
			p.WaitFor(t, 1)
			good.WaitForState(t, source.StateActive)

			wrong := "another-secret"
			bad := sourcetest.Start(t, "bad", &p, keyed(c, authenticate(mechanism, "peald", wrong)))
			bad.WaitForError(t, "connect to "+strings.Join(c.ListenAddrs(), ", "), "SASL")
			for _, secret := range []string{password, wrong} {
				if log := good.Log.String() + bad.Log.String(); strings.Contains(log, secret) {
					t.Errorf("the log contains the password %q:\n%s", secret, log)
				}
			}
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	certificate := testbed.NewCertificate(t)
	pair, err := tls.LoadX509KeyPair(certificate.CertFile, certificate.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	c := startBrokers(t, kfake.SeedTopics(1, topic), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}))
	produce(t, producer(t, c, kgo.DialTLSConfig(certificate.Client())), &kgo.Record{Key: []byte("k"), Value: []byte("v")})
	other := testbed.NewCertificate(t)
	empty := t.TempDir() + "/empty.pem"
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	var p sourcetest.Publisher
	sourcetest.Start(t, "good", &p, keyed(c, func(cfg *kafka.Config) {
		cfg.TLS = source.TLS{CAFile: certificate.CertFile, CertFile: other.CertFile, KeyFile: other.KeyFile}
	}))
	p.WaitFor(t, 1)

	for name, test := range map[string]struct {
		tls  source.TLS
		want string
	}{
		"plain text":        {source.TLS{}, "is TLS missing?"},
		"unknown authority": {source.TLS{CAFile: other.CertFile}, "certificate signed by unknown authority"},
		"wrong name":        {source.TLS{CAFile: certificate.CertFile, ServerName: "kafka.internal"}, "kafka.internal"},
		"missing file":      {source.TLS{CAFile: "/nonexistent.pem"}, "tls.ca_file: open /nonexistent.pem"},
		"empty file":        {source.TLS{CAFile: empty}, "contains no PEM certificates"},
		"wrong key":         {source.TLS{CertFile: certificate.CertFile, KeyFile: other.KeyFile}, "tls.cert_file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sourcetest.Start(t, "bad", &p, keyed(c, func(cfg *kafka.Config) { cfg.TLS = test.tls })).WaitForError(t, test.want)
		})
	}
}

func TestFailuresAreNamed(t *testing.T) {
	t.Parallel()
	acl := func(resource kmsg.ACLResourceType, name string, operation kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: resource, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: operation, Allow: true}
	}
	readTopic := acl(kmsg.ACLResourceTypeTopic, topic, kmsg.ACLOperationRead)
	readGroup := acl(kmsg.ACLResourceTypeGroup, group, kmsg.ACLOperationRead)
	c := startBrokers(t, kfake.SeedTopics(1, topic), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.Superuser("PLAIN", "admin", "p"),
		kfake.User("PLAIN", "peald", password, readTopic, readGroup),
		kfake.User("PLAIN", "no-group", password, readTopic),
		kfake.User("PLAIN", "no-topic", password, readGroup),
	)
	produce(t, producer(t, c, kgo.SASL(plain.Auth{User: "admin", Pass: "p"}.AsMechanism())), &kgo.Record{Key: []byte("k"), Value: []byte("v")})
	closed, err := testbed.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	as := func(user string) func(*kafka.Config) { return authenticate("PLAIN", user, password) }

	var p sourcetest.Publisher
	good := sourcetest.Start(t, "good", &p, keyed(c, as("peald")))
	p.WaitFor(t, 1)
	good.WaitForState(t, source.StateActive)

	for name, test := range map[string]struct {
		change func(*kafka.Config)
		want   []string
	}{
		"no broker":         {func(cfg *kafka.Config) { cfg.Brokers = []string{closed} }, []string{"connect to " + closed, "refused"}},
		"unknown host":      {func(cfg *kafka.Config) { cfg.Brokers = []string{"broker.invalid"} }, []string{"connect to broker.invalid", "lookup"}},
		"unknown topic":     {func(cfg *kafka.Config) { cfg.Topics = []string{"invoices"} }, []string{`topic "invoices"`, "TOPIC"}},
		"unknown dead":      {func(cfg *kafka.Config) { cfg.DeadLetter = "invoices.dead" }, []string{`topic "invoices.dead"`}},
		"no right to read":  {as("no-topic"), []string{`topic "orders"`, "TOPIC_AUTHORIZATION_FAILED"}},
		"no right to group": {as("no-group"), []string{"consumer group", "GROUP_AUTHORIZATION_FAILED"}},
		"no credentials":    {func(cfg *kafka.Config) { cfg.SASL = kafka.SASL{} }, []string{"connect to", "is SASL missing?"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := sourcetest.Start(t, "bad", &p, keyed(c, as("peald"), test.change))
			bad.WaitForError(t, test.want...)
			if strings.Contains(bad.Log.String(), password) {
				t.Errorf("the log contains the password:\n%s", bad.Log)
			}
		})
	}
}
