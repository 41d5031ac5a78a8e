package daemon

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// maxReplicas is the maximum number of replicas that JetStream supports.
const maxReplicas = 5

func (c Config) checkCluster() *SettingError {
	k := c.Cluster
	if k.Name == "" || len(k.Name) > 64 || strings.ContainsFunc(k.Name, func(r rune) bool {
		return !isAlphanumeric(r) && !strings.ContainsRune("-_", r)
	}) {
		return &SettingError{"cluster.name", strconv.Quote(k.Name), "1 to 64 letters, digits, '-' and '_'"}
	}

	if k.Replicas < 0 || k.Replicas > maxReplicas {
		return &SettingError{"cluster.replicas", strconv.Itoa(k.Replicas), fmt.Sprintf("1 to %d, or 0 for 3 if there are that many nodes, otherwise 1", maxReplicas)}
	}

	if (k.TLS.CertFile == "") != (k.TLS.KeyFile == "") {
		return &SettingError{"cluster.tls.cert_file", strconv.Quote(k.TLS.CertFile) + " with the key " + strconv.Quote(k.TLS.KeyFile), "both or neither"}
	}

	switch k.Mode {
	case ClusterEmbedded:
		return c.checkEmbedded()
	case ClusterNATS:
		return c.checkNATS()
	}

	for _, set := range []struct {
		key string
		is  bool
	}{
		{"cluster.peers", len(k.Peers) > 0}, {"cluster.advertise", k.Advertise != ""}, {"cluster.dir", k.Dir != ""}, {"cluster.url", k.URL != ""},
		{"cluster.credentials_file", k.CredentialsFile != ""}, {"cluster.secret", k.Secret != ""},
	} {
		if set.is {
			return &SettingError{set.key, "a value with cluster.mode off", "cluster.mode embedded or nats"}
		}
	}

	return nil
}

func (c Config) checkEmbedded() *SettingError {
	k := c.Cluster
	switch {
	case k.Dir == "":
		return &SettingError{"cluster.dir", "nothing with cluster.mode embedded", "a directory that only this node uses"}
	case k.URL != "":
		return &SettingError{"cluster.url", "a value with cluster.mode embedded", "cluster.mode nats"}
	case k.CredentialsFile != "":
		return &SettingError{"cluster.credentials_file", strconv.Quote(k.CredentialsFile) + " with cluster.mode embedded", "cluster.mode nats"}
	case len(k.Peers) == 0 && k.Replicas > 1:
		return &SettingError{"cluster.replicas", strconv.Itoa(k.Replicas) + " without cluster.peers", "0 or 1 for a standalone node"}
	case k.TLS.CertFile != "" && k.TLS.CAFile == "":
		return &SettingError{"cluster.tls.ca_file", "nothing, although cluster.tls.cert_file is set", "all three of cluster.tls, because nodes verify each other's certificates"}
	case k.TLS.CertFile == "" && k.TLS.CAFile != "":
		return &SettingError{"cluster.tls.cert_file", "nothing, although cluster.tls.ca_file is set", "all three of cluster.tls, because nodes verify each other's certificates"}
	}

	if _, _, ok := hostPort(k.Addr); !ok {
		return &SettingError{"cluster.addr", strconv.Quote(k.Addr), `HOST:PORT such as ":6222", which other nodes connect to`}
	}

	if host, port, ok := hostPort(k.Advertise); k.Advertise != "" && (!ok || host == "" || port == 0) {
		return &SettingError{"cluster.advertise", strconv.Quote(k.Advertise), `HOST:PORT such as "203.0.113.2:6222", at which other nodes reach this one`}
	}

	if k.Advertise != "" && len(k.Peers) == 0 {
		return &SettingError{"cluster.advertise", strconv.Quote(k.Advertise) + " without cluster.peers", "cluster.peers too: a standalone node accepts no other nodes"}
	}

	for _, peer := range k.Peers {
		if host, port, ok := hostPort(peer); !ok || host == "" || port == 0 {
			return &SettingError{"cluster.peers", strconv.Quote(peer), `HOST:PORT such as "10.0.0.2:6222" or "peald.internal:6222"`}
		}
	}

	if len(k.Peers) > 0 && !isLoopback(k.Addr) && k.Secret == "" && k.TLS.CAFile == "" {
		return &SettingError{"cluster.addr", strconv.Quote(k.Addr) + " with no cluster.secret", "a loopback address, or any with cluster.secret or cluster.tls: anyone who can connect can read and publish everything"}
	}

	return nil
}

func (c Config) checkNATS() *SettingError {
	k := c.Cluster
	for _, set := range []struct {
		key string
		is  bool
	}{
		{"cluster.peers", len(k.Peers) > 0}, {"cluster.advertise", k.Advertise != ""}, {"cluster.dir", k.Dir != ""}, {"cluster.secret", k.Secret != ""},
	} {
		if set.is {
			return &SettingError{set.key, "a value with cluster.mode nats", "cluster.mode embedded"}
		}
	}

	const accepted = `URLs of NATS servers, separated by commas, such as "nats://10.0.0.2:4222" or "tls://nats.internal:4222"`
	if k.URL == "" {
		return &SettingError{"cluster.url", "nothing", accepted}
	}

	for one := range strings.SplitSeq(k.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil || u.Host == "" || !isNATS(u.Scheme) {
			return &SettingError{"cluster.url", "an invalid URL", accepted}
		}
	}

	return nil
}
