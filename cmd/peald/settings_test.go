package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/peald/peald/daemon"
)

// load reads settings in the same way as the command: from flags, the
// environment, and a file with this content, whose name determines the format.
func load(t *testing.T, args, env []string, fileName, content string) (daemon.Config, error) {
	t.Helper()
	if fileName != "" {
		path := filepath.Join(t.TempDir(), fileName)
		const private = 0o600
		if err := os.WriteFile(path, []byte(content), private); err != nil {
			t.Fatal(err)
		}
		args = append([]string{"--config", path}, args...)
	}

	set := pflag.NewFlagSet("peald", pflag.ContinueOnError)
	flags := settingFlags(set)

	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}

	return flags.load(env, false)
}

// TestDemoAddr checks that the demo listens on loopback unless sse.addr is set.
func TestDemoAddr(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args, env []string
		want      string
	}{
		{nil, nil, "127.0.0.1:8080"},
		{[]string{"--sse.addr=:8080"}, nil, ":8080"},
		{nil, []string{"PEALD_SSE_ADDR=:80"}, ":80"},
	} {
		set := pflag.NewFlagSet("peald", pflag.ContinueOnError)
		flags := settingFlags(set)
		if err := set.Parse(test.args); err != nil {
			t.Fatal(err)
		}
		if cfg, err := flags.load(test.env, true); err != nil || cfg.SSE.Addr != test.want {
			t.Errorf("%q and %q give %q, %v; want %q", test.args, test.env, cfg.SSE.Addr, err, test.want)
		}
	}
}

// hookSecret is a valid secret of a hook.
const hookSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

func TestPrecedence(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		key                   string
		file                  string // in YAML
		variable, flag        string
		def                   any
		byFile, byVar, byFlag any
	}{
		{
			"sse.addr", `"127.0.0.1:1"`, "127.0.0.1:2", "127.0.0.1:3",
			":8080", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3",
		},
		{
			"sse.heartbeat", "20s", "30s", "40s",
			15 * time.Second, 20 * time.Second, 30 * time.Second, 40 * time.Second,
		},
		{
			"sse.max_connections", "1", "2", "3",
			0, 1, 2, 3,
		},
		{
			"sse.allowed_origins", "[http://a.example, http://b.example]", "http://c.example, http://d.example", "http://e.example",
			[]string(nil),
			[]string{"http://a.example", "http://b.example"},
			[]string{"http://c.example", "http://d.example"},
			[]string{"http://e.example"},
		},
		{
			"broker.queue_bytes", "65536", "128KiB", "2MiB",
			daemon.Bytes(1 << 20), daemon.Bytes(1 << 16), daemon.Bytes(1 << 17), daemon.Bytes(2 << 20),
		},
		{
			"control.insecure", "true", "false", "true",
			false, true, false, true,
		},
		{
			"control.tokens", "[{name: a, token: t1, scopes: [read]}, \"b:t2\"]", "c:t3,d:t4:publish+read", "e:t5:admin",
			[]daemon.Token(nil),
			[]daemon.Token{{Name: "a", Token: "t1", Scopes: []string{"read"}}, {Name: "b", Token: "t2"}},
			[]daemon.Token{{Name: "c", Token: "t3"}, {Name: "d", Token: "t4", Scopes: []string{"publish", "read"}}},
			[]daemon.Token{{Name: "e", Token: "t5", Scopes: []string{"admin"}}},
		},
		{
			"topics",
			"[{pattern: a.*, history: {max_events: 1, max_age: 1h}}, {pattern: b, slow_consumer: conflate, anonymous: false}]",
			`[{"pattern":"c","history":{"max_age":"0s"}}]`,
			`[{"pattern":"d"}, {"pattern":">","anonymous":true}]`,
			[]daemon.TopicPolicy(nil),
			[]daemon.TopicPolicy{
				{Pattern: "a.*", History: daemon.TopicHistory{MaxEvents: new(1), MaxAge: new(time.Hour)}},
				{Pattern: "b", SlowConsumer: "conflate", Anonymous: new(false)},
			},
			[]daemon.TopicPolicy{{Pattern: "c", History: daemon.TopicHistory{MaxAge: new(time.Duration(0))}}},
			[]daemon.TopicPolicy{{Pattern: "d"}, {Pattern: ">", Anonymous: new(true)}},
		},
		{
			"hooks",
			"[{url: 'https://a.example', secret: whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=, events: [user.online], delay: 1m}]",
			`[{"url":"https://b.example","secret":"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}]`,
			`[]`,
			[]daemon.Hook(nil),
			[]daemon.Hook{{URL: "https://a.example", Secret: hookSecret, Events: []string{"user.online"}, Delay: new(time.Minute)}},
			[]daemon.Hook{{URL: "https://b.example", Secret: hookSecret}},
			[]daemon.Hook{},
		},
		{
			"sources",
			"[{name: a, postgres: {url: postgres://h/a, table: t, dead_letter: d}, map: {topic: 'x.{column.id}', retain: 'true'}}]",
			`[{"name":"b","postgres":{"url":"postgres://h/b"}}]`,
			`[{"name":"c","postgres":{"url":"postgres://h/c"},"map":{"everyone":"true"}}]`,
			[]daemon.Source(nil),
			[]daemon.Source{{
				Name: "a", Postgres: &daemon.PostgresSource{URL: "postgres://h/a", Table: "t", DeadLetter: "d"},
				Map: daemon.SourceMap{Topic: "x.{column.id}", Retain: "true"},
			}},
			[]daemon.Source{{Name: "b", Postgres: &daemon.PostgresSource{URL: "postgres://h/b"}}},
			[]daemon.Source{{Name: "c", Postgres: &daemon.PostgresSource{URL: "postgres://h/c"}, Map: daemon.SourceMap{Everyone: "true"}}},
		},
	} {
		t.Run(test.key, func(t *testing.T) {
			t.Parallel()
			content := test.key + ": " + test.file + "\n"
			if section, name, nested := strings.Cut(test.key, "."); nested {
				content = section + ":\n  " + name + ": " + test.file + "\n"
			}
			env := []string{"HOME=/", variable(test.key) + "=" + test.variable}
			args := []string{"--" + test.key + "=" + test.flag}
			for _, layers := range []struct {
				name      string
				args, env []string
				file      string
				want      any
			}{
				{"default", nil, nil, "", test.def},
				{"file", nil, nil, "peald.yaml", test.byFile},
				{"variable over file", nil, env, "peald.yaml", test.byVar},
				{"variable", nil, env, "", test.byVar},
				{"flag over all", args, env, "peald.yaml", test.byFlag},
				{"flag over variable", args, env, "", test.byFlag},
				{"flag over file", args, nil, "peald.yaml", test.byFlag},
				{"flag", args, nil, "", test.byFlag},
			} {
				cfg, err := load(t, layers.args, layers.env, layers.file, content)
				if err != nil {
					t.Errorf("%s: %v", layers.name, err)
					continue
				}
				if got := valueOf(t, cfg, test.key); !reflect.DeepEqual(got, layers.want) {
					t.Errorf("%s: %s is %#v, want %#v", layers.name, test.key, got, layers.want)
				}
			}
		})
	}
}

func valueOf(t *testing.T, cfg daemon.Config, key string) any {
	t.Helper()
	for _, s := range cfg.Settings() {
		if s.Key == key {
			return s.Value
		}
	}
	t.Fatalf("unknown setting %s", key)
	return nil
}

func TestFlagsAndVariablesOfSettings(t *testing.T) {
	t.Parallel()
	set := pflag.NewFlagSet("peald", pflag.ContinueOnError)
	settingFlags(set)
	variables := map[string]string{}

	for _, s := range daemon.Defaults().Settings() {
		if flag := set.Lookup(s.Key); flag == nil || flag.Usage == "" {
			t.Errorf("%s has no flag with a usage text", s.Key)
		}
		name := variable(s.Key)
		if other, ok := variables[name]; ok {
			t.Errorf("%s is the variable of %s and %s", name, other, s.Key)
		}
		variables[name] = s.Key
	}
}

func TestEmptyValuesAreDefaults(t *testing.T) {
	t.Parallel()
	env := []string{"PEALD_SSE_ADDR=", "PEALDSSE=x"}
	for name, content := range map[string]string{
		"peald.yaml": "sse:\n  addr:\n  heartbeat: ''\ngrpc:\nlog: ''\nauth: {}\n",
		"peald.toml": "log = ''\n[sse]\naddr = ''\nheartbeat = ''\n[auth]\n",
		"peald.json": `{"sse": {"addr": null, "heartbeat": "", "max_connections": ""}, "log": "", "auth": {}}`,
	} {
		cfg, err := load(t, nil, env, name, content)
		if err != nil || !reflect.DeepEqual(cfg, daemon.Defaults()) {
			t.Errorf("%s: settings are %+v (%v)", name, cfg, err)
		}
	}
}

// TestEmptyCookieInFile checks that an empty auth.cookie, which disables the
// cookie, isn't replaced by the default.
func TestEmptyCookieInFile(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"peald.yaml": "auth: {cookie: ''}\n",
		"peald.toml": "auth.cookie = ''\n",
		"peald.json": `{"auth": {"cookie": ""}}`,
	} {
		if cfg, err := load(t, nil, nil, name, content); err != nil || cfg.Auth.Cookie != "" {
			t.Errorf("%s: the cookie is %q (%v)", name, cfg.Auth.Cookie, err)
		}
	}
}

func TestYAMLMerge(t *testing.T) {
	t.Parallel()
	const content = "grpc:\n  tls: &tls {cert_file: a.pem, key_file: a.key}\nsse:\n  tls: {<<: *tls, key_file: b.key}\n"
	cfg, err := load(t, nil, nil, "peald.yaml", content)
	if want := (daemon.TLS{CertFile: "a.pem", KeyFile: "b.key"}); err != nil || cfg.SSE.TLS != want {
		t.Errorf("sse.tls is %+v (%v), want %+v", cfg.SSE.TLS, err, want)
	}
}

func TestFileFormats(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"peald.yaml": "sse:\n  max_connections: 7\n  heartbeat: 5s\ncontrol:\n  tokens:\n    - {name: a, token: t, scopes: [read]}\n",
		"peald.yml":  "sse: {max_connections: 7, heartbeat: 5s}\ncontrol: {tokens: [\"a:t:read\"]}\n",
		"peald.toml": "[sse]\nmax_connections = 7\nheartbeat = \"5s\"\n[[control.tokens]]\nname = \"a\"\ntoken = \"t\"\nscopes = [\"read\"]\n",
		"peald.json": `{"sse": {"max_connections": 7, "heartbeat": "5s"}, "control": {"tokens": [{"name": "a", "token": "t", "scopes": ["read"]}]}}`,
	} {
		want := daemon.Defaults()
		want.SSE.MaxConnections, want.SSE.Heartbeat = 7, 5*time.Second
		want.Control.Tokens = []daemon.Token{{Name: "a", Token: "t", Scopes: []string{"read"}}}
		cfg, err := load(t, nil, nil, name, content)
		if err != nil || !reflect.DeepEqual(cfg, want) {
			t.Errorf("%s: settings are %+v (%v)", name, cfg, err)
		}
	}
}

func TestRepeatedListFlag(t *testing.T) {
	t.Parallel()
	cfg, err := load(t, []string{"--sse.allowed_origins", "http://a.example", "--sse.allowed_origins", "http://b.example"}, nil, "", "")
	if want := []string{"http://a.example", "http://b.example"}; err != nil || !reflect.DeepEqual(cfg.SSE.AllowedOrigins, want) {
		t.Errorf("origins are %q (%v)", cfg.SSE.AllowedOrigins, err)
	}
}

func TestKubernetesVariablesAreIgnored(t *testing.T) {
	t.Parallel()
	_, err := load(t, nil, []string{
		"PEALD_SERVICE_HOST=10.0.0.1", "PEALD_SERVICE_PORT=9090", "PEALD_SERVICE_PORT_GRPC=9090",
		"PEALD_PORT=tcp://10.0.0.1:9090", "PEALD_PORT_9090_TCP=tcp://10.0.0.1:9090",
		"PEALD_PORT_9090_TCP_PROTO=tcp", "PEALD_PORT_9090_TCP_PORT=9090", "PEALD_PORT_9090_TCP_ADDR=10.0.0.1",
		"PEALD_SSE_SERVICE_HOST=10.0.0.1", "PEALD_SSE_PORT=tcp://10.0.0.1:8080",
	}, "", "")
	if err != nil {
		t.Error(err)
	}
}

func TestInvalidSettings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args, env     []string
		file, content string
		want          []string
	}{
		"unknown entry":              {nil, nil, "p.yaml", "sse:\n  adr: x\n", []string{"sse.adr: unknown setting in ", "p.yaml; did you mean sse.addr?"}},
		"unknown entry in TOML":      {nil, nil, "p.toml", "[brokers]\nshards = 3\n", []string{"brokers.shards: ", "did you mean broker.shards?"}},
		"unknown entry in JSON":      {nil, nil, "p.json", `{"log": {"levels": "info"}}`, []string{"log.levels: ", "did you mean log.level?"}},
		"empty unknown entry":        {nil, nil, "p.yaml", "hisstory:\n", []string{"hisstory: "}},
		"value for a section":        {nil, nil, "p.yaml", "sse: 8080\n", []string{"sse: given a value in ", "p.yaml; want a section with settings such as sse."}},
		"section for a value":        {nil, nil, "p.yaml", "sse:\n  addr:\n    host: x\n", []string{"sse.addr.host: "}},
		"unknown entry of a token":   {nil, nil, "p.yaml", "control:\n  tokens:\n    - {nam: a, token: t}\n", []string{"control.tokens[0]: given ", "want an entry with name, token and scopes"}},
		"misspelled part of token":   {nil, nil, "p.yaml", "control:\n  tokens:\n    - {name: a, token: hunter2, scope: [read]}\n", []string{`control.tokens[0]: given "scope" in `, "want an entry with name, token and scopes; did you mean scopes?"}},
		"unknown entry of a policy":  {nil, nil, "p.yaml", "topics:\n  - {pattern: a, colour: red}\n", []string{`topics[0]: given "colour" in `, "p.yaml; want a policy with pattern"}},
		"misspelled part of policy":  {nil, nil, "p.yaml", "topics:\n  - {pattern: a}\n  - {patern: b}\n", []string{`topics[1]: given "patern" in `, "did you mean pattern?"}},
		"misspelled part of history": {nil, nil, "p.toml", "[[topics]]\npattern = 'a'\nhistory = {max_event = 1}\n", []string{`topics[0].history: given "max_event" in `, "did you mean max_events?"}},
		"duplicate part of a policy": {nil, nil, "p.yaml", "topics:\n  - {pattern: a,\n     Pattern: b}\n", []string{"topics[0].pattern: set twice in ", "as pattern at line 2 and Pattern at line 3"}},
		"number for a policy":        {nil, nil, "p.yaml", "topics: [1]\n", []string{"topics[0]: given 1 in ", "want a policy with pattern"}},
		"section for policies":       {nil, nil, "p.yaml", "topics: {pattern: a}\n", []string{"topics.pattern: "}},
		"text in a policy":           {nil, nil, "p.yaml", "topics: [{pattern: a, history: {max_age: soon}}]\n", []string{`topics[0].history.max_age: given "soon" in `, "want a duration such as"}},
		"policies that aren't JSON":  {nil, []string{"PEALD_TOPICS=prices.>"}, "", "", []string{`topics: given "prices.>" in PEALD_TOPICS; want a JSON list such as`}},
		"policies and more in JSON":  {[]string{`--topics=[],"log.level":[]`}, nil, "", "", []string{"topics: given ", "want a JSON list such as"}},
		"misspelled part of a hook":  {nil, nil, "p.yaml", "hooks: [{url: a, secrets: hunter2}]\n", []string{`hooks[0]: given "secrets" in `, "did you mean secret?"}},
		"unknown event of a hook":    {nil, nil, "p.yaml", "hooks: [{url: 'https://a.example', secret: hunter2, events: [away]}]\n", []string{`hooks[0].events: given "away"; want user.online, `}},
		"hooks that aren't JSON":     {nil, []string{"PEALD_HOOKS=hunter2"}, "", "", []string{"hooks: given a value (hidden because it may be a secret) in PEALD_HOOKS; want a JSON list such as"}},
		"number for a delay":         {nil, nil, "p.yaml", "hooks: [{url: 'https://a.example', delay: 5}]\n", []string{"hooks[0].delay: given a value (hidden", "want a duration such as"}},
		"unknown kind of source":     {nil, nil, "p.yaml", "sources:\n  - {name: a, oracle: {url: x}}\n", []string{`sources[0]: given "oracle" in `, "p.yaml; want a section with some of name, map, postgres"}},
		"misspelled part of source":  {nil, nil, "p.yaml", "sources:\n  - {name: a, postgres: {url: 'postgres://u:hunter2@h/d', dead_leter: x}}\n", []string{`sources[0].postgres: given "dead_leter" in `, "did you mean dead_letter?"}},
		"unknown part of a map":      {nil, nil, "p.yaml", "sources:\n  - {name: a, postgres: {url: x}, map: {audience: x}}\n", []string{`sources[0].map: given "audience" in `, "want a section with some of topic, topics, user_id, everyone"}},
		"text for a source":          {nil, nil, "p.yaml", "sources: ['postgres://u:hunter2@h/d']\n", []string{"sources[0]: given a value (hidden because it may be a secret) in "}},
		"sources that aren't JSON":   {nil, []string{"PEALD_SOURCES=postgres://u:hunter2@h/d"}, "", "", []string{"sources: given a value (hidden because it may be a secret) in PEALD_SOURCES; want a JSON list such as"}},
		"number for a URL":           {nil, nil, "p.yaml", "sources:\n  - {name: a, postgres: {url: 5}}\n", []string{"sources[0].postgres.url: given a value (hidden"}},
		"unlike any variable":        {nil, []string{"PEALD_FOO=1"}, "", "", []string{"PEALD_FOO: unknown environment variable; peald config --defaults lists all settings"}},
		"unknown variable":           {nil, []string{"PEALD_SSE_ADRR=:1"}, "", "", []string{"PEALD_SSE_ADRR: unknown environment variable; did you mean PEALD_SSE_ADDR?"}},
		"number for a text":          {nil, nil, "p.yaml", "sse:\n  addr: 8080\n", []string{"sse.addr: given 8080 in ", "p.yaml; want a string"}},
		"number for a time":          {nil, nil, "p.yaml", "sse:\n  heartbeat: 15\n", []string{"sse.heartbeat: given 15 in ", "want a duration such as"}},
		"text for a time":            {nil, []string{"PEALD_DRAIN_TIMEOUT=soon"}, "", "", []string{`drain.timeout: given "soon" in PEALD_DRAIN_TIMEOUT; want a duration`}},
		"text for a number":          {[]string{"--broker.shards=many"}, nil, "", "", []string{`broker.shards: given "many" in --broker.shards; want a whole number`}},
		"fraction for a number":      {nil, nil, "p.json", `{"broker": {"shards": 1.5}}`, []string{"broker.shards: given 1.5 in "}},
		"text for a switch":          {[]string{"--auth.anonymous=maybe"}, nil, "", "", []string{`auth.anonymous: given "maybe" in --auth.anonymous; want true or false`}},
		"number for a switch":        {nil, nil, "p.yaml", "auth:\n  anonymous: 1\n", []string{"auth.anonymous: given 1 in "}},
		"text for a size":            {nil, []string{"PEALD_BROKER_QUEUE_BYTES=lots"}, "", "", []string{`broker.queue_bytes: given "lots" in PEALD_BROKER_QUEUE_BYTES; want a size such as`}},
		"number in a list":           {nil, nil, "p.yaml", "sse:\n  allowed_origins: [1]\n", []string{"sse.allowed_origins[0]: given 1 in "}},
		"section for a list":         {nil, nil, "p.yaml", "sse:\n  allowed_origins: 5\n", []string{"sse.allowed_origins: given 5 in ", "want a list of strings"}},
		"malformed token":            {nil, []string{"PEALD_CONTROL_TOKENS=hunter2"}, "", "", []string{"control.tokens: given a value (hidden because it may be a secret) in PEALD_CONTROL_TOKENS; want name:token"}},
		"secret that is a number":    {nil, nil, "p.yaml", "auth:\n  jwt:\n    hmac_secret: 12345678\n", []string{"auth.jwt.hmac_secret: given a value (hidden"}},
		"bad value":                  {[]string{"--sse.path=events"}, nil, "", "", []string{`sse.path: given "events"; want a path`}},
		"contradiction":              {[]string{"--grpc.addr=:9090"}, nil, "", "", []string{"grpc.addr: ", "control.tokens"}},
		"broken YAML":                {nil, nil, "p.yaml", "sse:\n\t- x\n", []string{"configuration file ", "p.yaml: line 2: "}},
		"broken TOML":                {nil, nil, "p.toml", "[sse\n", []string{"configuration file ", "p.toml: line 1: "}},
		"broken JSON":                {nil, nil, "p.json", `{"sse": `, []string{"configuration file ", "p.json: line 1: "}},
		"duplicate key":              {nil, nil, "p.yaml", "log: {level: info}\nlog: {level: warn}\n", []string{"log: set twice in ", "p.yaml, as log at line 1 and log at line 2; want each key once"}},
		"duplicate key in two cases": {nil, nil, "p.json", "{\"auth\": {\"anonymous\": false},\n\"Auth\": {\"cookie\": \"c\"}}", []string{"auth: set twice in ", "p.json, as auth at line 1 and Auth at line 2"}},
		"duplicate key with dots":    {nil, nil, "p.toml", "sse.addr = ':1'\n\"sse.addr\" = ':2'\n", []string{"sse.addr: set twice in ", "p.toml, as sse.addr at line 1 and sse.addr at line 2"}},
		"duplicate part of a token":  {nil, nil, "p.yaml", "control:\n  tokens:\n    - {name: a, token: hunter2,\n       Token: hunter2}\n", []string{"control.tokens[0].token: set twice in ", "as token at line 3 and Token at line 4"}},
		"a second document":          {nil, nil, "p.yaml", "log: {level: info}\n---\nauth: {anonymous: false}\n", []string{"p.yaml: line 2: a second document"}},
		"empty section for a value":  {nil, nil, "p.yaml", "sse: {addr: {}}\n", []string{"sse.addr: given a section in ", "want a string"}},
		"empty unknown section":      {nil, nil, "p.json", `{"hisstory": {}}`, []string{"hisstory: "}},
		"empty unknown text":         {nil, nil, "p.toml", "sse.adr = ''\n", []string{"sse.adr: "}},
		"unknown format":             {nil, nil, "p.ini", "x=y", []string{"--config: given ", ".yaml, .yml, .toml or .json"}},
		"missing file":               {[]string{"--config=/nonexistent/peald.yaml"}, nil, "", "", []string{"configuration file /nonexistent/peald.yaml: ", "no such file"}},
		"list instead of a section":  {nil, nil, "p.yaml", "- sse\n", []string{"configuration file "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, test.args, test.env, test.file, test.content)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %q, want %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "12345678") {
				t.Errorf("the error contains a secret: %v", err)
			}
		})
	}
}

func TestPrintedConfigMasksSecrets(t *testing.T) {
	t.Parallel()
	cfg := daemon.Defaults()
	cfg.Auth.JWT.HMACSecret = strings.Repeat("hunter2", 5)
	cfg.Control.Tokens = []daemon.Token{{Name: "shop", Token: "hunter2"}}
	cfg.Sources = []daemon.Source{{Name: "outbox", Postgres: &daemon.PostgresSource{URL: "postgres://u:hunter2@h/d", Table: "app.outbox"}}}

	var out bytes.Buffer
	if err := printConfig(&out, cfg, false); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.Contains(text, "hunter2") || !strings.Contains(text, "name: shop") ||
		!strings.Contains(text, "name: outbox") || !strings.Contains(text, "table: app.outbox") {
		t.Errorf("printed:\n%s", text)
	}
	if _, err := load(t, nil, nil, "peald.yaml", out.String()); err == nil {
		t.Error("a masked secret is accepted")
	}
}

func TestPrintedConfigLoads(t *testing.T) {
	t.Parallel()
	cfg := daemon.Defaults()
	cfg.SSE.AllowedOrigins = []string{"https://a.example", "*"}
	cfg.SSE.AllowedHeaders = []string{"X-Request-ID"}
	cfg.SSE.TrustedProxies = []string{"10.0.0.0/8", "::1"}
	cfg.Auth.CallbackHeaders = []string{"X-Session"}
	cfg.Auth.AnonymousTopics = []string{"news", "orders.>"}
	cfg.Cluster.Mode, cfg.Cluster.Dir, cfg.Cluster.Addr = "embedded", "/var/lib/peald", "127.0.0.1:6222"
	cfg.Cluster.Peers = []string{"127.0.0.1:6223", "[::1]:6224"}
	cfg.Log.Format = "json"
	cfg.Broker.QueueBytes = 1500
	cfg.Topics = []daemon.TopicPolicy{
		{Pattern: "a.*", History: daemon.TopicHistory{MaxEvents: new(1), MaxAge: new(90 * time.Minute)}, SlowConsumer: "conflate", Anonymous: new(true)},
		{Pattern: "b", Anonymous: new(false)},
	}

	for _, commented := range []bool{false, true} {
		var out bytes.Buffer
		if err := printConfig(&out, cfg, commented); err != nil {
			t.Fatal(err)
		}

		back, err := load(t, nil, nil, "peald.yaml", out.String())
		if err != nil {
			t.Fatalf("%v in\n%s", err, out.String())
		}

		back.Control.Tokens, back.Hooks, back.Sources = cfg.Control.Tokens, cfg.Hooks, cfg.Sources // [] instead of nil
		if !reflect.DeepEqual(back, cfg) {
			t.Errorf("settings are %+v\nof\n%s", back, out.String())
		}
	}
}
