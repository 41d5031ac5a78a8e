package daemon_test

import (
	"strings"
	"testing"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/testbed"
)

func kafkaSource() daemon.Source {
	return daemon.Source{Name: "kafka", Kafka: &daemon.KafkaSource{Brokers: []string{"127.0.0.1:1"}, Topics: []string{"orders"}, Group: "peald"}}
}

func natsSource() daemon.Source {
	return daemon.Source{Name: "nats", NATS: &daemon.NATSSource{URL: "nats://peald:hunter2@127.0.0.1:1", Stream: "ORDERS", Consumer: "peald"}}
}

func TestInvalidKafkaAndNATSSources(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		change func(kafka *daemon.KafkaSource, nats *daemon.NATSSource)
		want   string // the error; empty if the sources are valid
	}{
		"minimal": {func(*daemon.KafkaSource, *daemon.NATSSource) {}, ""},
		"everything": {func(k *daemon.KafkaSource, n *daemon.NATSSource) {
			k.Start, k.DeadLetter, k.TLS = "latest", "dead", daemon.SourceTLS{Enabled: true, CAFile: "ca", CertFile: "cert", KeyFile: "key", ServerName: "kafka"}
			k.SASL = daemon.KafkaSASL{Mechanism: "PLAIN", Username: "peald", Password: "hunter2"}
			n.Start, n.DeadLetter, n.TLS, n.CredentialsFile, n.Domain, n.Subjects = "new", "dead", daemon.SourceTLS{CAFile: "ca"}, "creds", "hub", []string{"orders.>"}
		}, ""},
		"kafka.brokers":         {func(k *daemon.KafkaSource, _ *daemon.NATSSource) { k.Brokers = nil }, "sources[0].kafka.brokers: given nothing"},
		"kafka.topics":          {func(k *daemon.KafkaSource, _ *daemon.NATSSource) { k.Topics = nil }, "sources[0].kafka.topics: given nothing"},
		"kafka.group":           {func(k *daemon.KafkaSource, _ *daemon.NATSSource) { k.Group = "" }, "sources[0].kafka.group: given nothing"},
		"kafka.start":           {func(k *daemon.KafkaSource, _ *daemon.NATSSource) { k.Start = "x" }, `sources[0].kafka.start: given "x"; want earliest or latest`},
		"kafka.dead_letter":     {func(k *daemon.KafkaSource, _ *daemon.NATSSource) { k.DeadLetter = "orders" }, `sources[0].kafka.dead_letter: given "orders"`},
		"kafka.tls":             {func(k *daemon.KafkaSource, _ *daemon.NATSSource) { k.TLS.KeyFile = "k" }, "sources[0].kafka.tls.cert_file: given"},
		"kafka.sasl":            {func(k *daemon.KafkaSource, _ *daemon.NATSSource) { k.SASL.Password = "hunter2" }, "sources[0].kafka.sasl.mechanism: given nothing"},
		"nats.url":              {func(_ *daemon.KafkaSource, n *daemon.NATSSource) { n.URL = "http://u:hunter2@h" }, "sources[1].nats.url: given an invalid URL"},
		"nats.tls":              {func(_ *daemon.KafkaSource, n *daemon.NATSSource) { n.TLS.CertFile = "c" }, "sources[1].nats.tls.cert_file: given"},
		"nats.domain":           {func(_ *daemon.KafkaSource, n *daemon.NATSSource) { n.Domain = "a b" }, `sources[1].nats.domain: given "a b"`},
		"nats.stream":           {func(_ *daemon.KafkaSource, n *daemon.NATSSource) { n.Stream = "" }, "sources[1].nats.stream: given nothing"},
		"nats.consumer":         {func(_ *daemon.KafkaSource, n *daemon.NATSSource) { n.Consumer = "" }, "sources[1].nats.consumer: given nothing"},
		"nats.subjects":         {func(_ *daemon.KafkaSource, n *daemon.NATSSource) { n.Subjects = []string{"a..b"} }, `sources[1].nats.subjects: given "a..b"`},
		"nats.start":            {func(_ *daemon.KafkaSource, n *daemon.NATSSource) { n.Start = "x" }, `sources[1].nats.start: given "x"; want all or new`},
		"nats.dead_letter":      {func(_ *daemon.KafkaSource, n *daemon.NATSSource) { n.DeadLetter = "a.>" }, `sources[1].nats.dead_letter: given "a.>"`},
		"nats.credentials_file": {func(_ *daemon.KafkaSource, n *daemon.NATSSource) { n.CredentialsFile = "any" }, ""},
	} {
		cfg := daemon.Defaults()
		cfg.Sources = []daemon.Source{kafkaSource(), natsSource()}
		test.change(cfg.Sources[0].Kafka, cfg.Sources[1].NATS)
		err := cfg.Validate()
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: error %v, want none", name, err)
		case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("%s: error %v, want %s", name, err, test.want)
		}
	}
}

// TestSecretsOfKafkaAndNATSSources checks that secrets stay out of the log, and that line
// breaks after them are ignored.
func TestSecretsOfKafkaAndNATSSources(t *testing.T) {
	t.Parallel()

	r := startReloadable(t, daemon.Options{}, func(*daemon.Config) {})
	r.reload(t, func(cfg *daemon.Config) {
		cfg.Sources = []daemon.Source{kafkaSource(), natsSource()}
		cfg.Sources[0].Kafka.SASL = daemon.KafkaSASL{Mechanism: "PLAIN", Username: "peald", Password: "hunter2\n"}
		cfg.Sources[1].NATS.URL += "\n"
	})
	for _, name := range []string{"kafka", "nats"} {
		if !testbed.Eventually(patience, func() bool { return len(r.log.With("source failed", "source="+name, "connect to 127.0.0.1:1")) > 0 }) {
			t.Errorf("log without the failure of %s:\n%s", name, r.log.String())
		}
	}
	if strings.Contains(r.log.String(), "hunter2") {
		t.Errorf("log with a secret:\n%s", r.log.String())
	}
}
