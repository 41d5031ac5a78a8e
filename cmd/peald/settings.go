package main

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/nearest"
)

const sourcesHelp = `Every setting can be set by a flag (--sse.addr), an environment variable (PEALD_SSE_ADDR)
or a configuration file in YAML, TOML or JSON (sse: {addr: …}). Flags take precedence over
variables, and variables over the file. Without --config the daemon reads ./peald.yaml or
/etc/peald/peald.yaml, if it exists. In flags and variables, separate list entries with
commas; write a token as name:token or name:token:scope+scope, and topics, hooks and sources
as JSON lists. An empty variable counts as not set.`

const variablePrefix = "PEALD_"

// variable returns the name of a setting's environment variable.
func variable(key string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// settingsFlags holds the settings on the command line.
type settingsFlags struct {
	set        *pflag.FlagSet
	configFile *string
}

// settingFlags defines --config and a flag for every setting on set.
func settingFlags(set *pflag.FlagSet) settingsFlags {
	set.SortFlags = false
	configFile := set.String("config", "", "configuration `FILE`: .yaml, .yml, .toml or .json")
	for _, s := range daemon.Defaults().Settings() {
		_, isBool := s.Value.(bool)
		value := &rawValue{kind: kindOf(s.Value), text: textOf(s.Value)}
		flag := set.VarPF(value, s.Key, "", s.Doc)
		if isBool {
			flag.NoOptDefVal = "true"
		}
	}
	return settingsFlags{set, configFile}
}

// completeSettings defines the shell completions for the flags of cmd.
func completeSettings(cmd *cobra.Command) {
	err := cmd.MarkPersistentFlagFilename("config", "yaml", "yml", "toml", "json")
	for _, s := range daemon.Defaults().Settings() {
		values := s.Choices
		if _, isBool := s.Value.(bool); isBool {
			values = []string{"true", "false"}
		}
		if strings.HasSuffix(s.Key, "_file") {
			continue // shells complete file names by default
		}
		err = errors.Join(err, cmd.RegisterFlagCompletionFunc(s.Key, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)))
	}

	if err != nil {
		panic(err) // a flag isn't defined, which is a bug
	}
}

// rawValue holds the unparsed text of a flag. Flags, variables and files are
// later parsed by the same rules, and produce the same errors.
type rawValue struct {
	kind string
	text string
	set  bool
}

func (v *rawValue) String() string { return v.text }
func (v *rawValue) Type() string   { return v.kind }

// Repeatable reports whether the flag may be given several times.
func (v *rawValue) Repeatable() bool { return v.kind == kindList || v.kind == kindTokens }

// Set sets the text. If a list flag is repeated, its texts are joined with commas.
func (v *rawValue) Set(text string) error {
	if v.set && v.Repeatable() {
		text = v.text + "," + text
	}
	v.text, v.set = text, true
	return nil
}

// demoAddr is the default of sse.addr in a demo. Anyone who can connect can act as
// any user, so the demo must not be exposed to a network by default.
const demoAddr = "127.0.0.1:8080"

// load reads the settings from all sources and validates them.
func (f settingsFlags) load(env []string, demo bool) (daemon.Config, error) {
	file, err := findFile(*f.configFile)
	if err != nil {
		return daemon.Config{}, err
	}
	return f.loadFrom(file, env, demo)
}

// loadFrom is like load, but reads the given file instead of the one from --config.
func (f settingsFlags) loadFrom(file configFile, env []string, demo bool) (daemon.Config, error) {
	v := viper.New()
	origin := map[string]string{} // key → source of its value
	settings := daemon.Defaults().Settings()
	keys := make([]string, 0, len(settings))

	for _, s := range settings {
		keys = append(keys, s.Key)
		v.SetDefault(s.Key, s.Value)
	}

	if demo {
		v.SetDefault("sse.addr", demoAddr)
	}

	for _, layer := range []func() (layer, error){
		func() (layer, error) { return file.read(settings) },
		func() (layer, error) { return readVariables(env, keys) },
	} {
		values, err := layer()
		if err != nil {
			return daemon.Config{}, err
		}
		for key, given := range values {
			if err := v.MergeConfigMap(nested(key, given.value)); err != nil {
				return daemon.Config{}, fmt.Errorf("%s: %w", key, err)
			}
			origin[key] = given.origin
		}
	}

	for _, key := range keys {
		flag := f.set.Lookup(key)
		if err := v.BindPFlag(key, flag); err != nil {
			return daemon.Config{}, fmt.Errorf("%s: %w", key, err)
		}
		if flag.Changed {
			origin[key] = "--" + key
		}
	}

	cfg, err := decode(v, origin)
	if err != nil {
		return daemon.Config{}, err
	}

	return cfg, cfg.Validate() //nolint:wrapcheck // the error names the setting
}

// layer holds the settings of one source, by key.
type layer map[string]given

type given struct {
	value  any
	origin string
}

// nested returns nested maps in which viper finds value at key.
func nested(key string, value any) map[string]any {
	section, rest, found := strings.Cut(key, ".")
	if !found {
		return map[string]any{key: value}
	}
	return map[string]any{section: nested(rest, value)}
}

// readVariables reads the settings from the environment. It returns an error for
// an unknown variable with the prefix.
func readVariables(env, keys []string) (layer, error) {
	known := make(map[string]string, len(keys)) // variable → key
	for _, key := range keys {
		known[variable(key)] = key
	}

	serviceLink := regexp.MustCompile(serviceLinkPattern)
	values := layer{}

	for _, entry := range env {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, variablePrefix) || text == "" {
			continue
		}

		key, ok := known[name]
		switch {
		case ok:
			values[key] = given{text, name}
		case name == variablePrefix+"CONFIG":
			return nil, fmt.Errorf("%s: unknown environment variable; want --config FILE, ./peald.yaml or /etc/peald/peald.yaml", name)
		case !serviceLink.MatchString(name):
			return nil, unknown(name, "environment variable", slices.Collect(maps.Keys(known)))
		}
	}

	return values, nil
}

// serviceLinkPattern matches the variables that Kubernetes sets in every container
// for a service named peald or peald-something.
const serviceLinkPattern = `^PEALD_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`

// unknown returns the error for an unknown setting. Kind describes the name, for
// example as an environment variable.
func unknown(name, kind string, known []string) error {
	if suggestion, ok := nearest.To(name, known); ok {
		return fmt.Errorf("%s: unknown %s; did you mean %s?", name, kind, suggestion)
	}
	return fmt.Errorf("%s: unknown %s; peald config --defaults lists all settings", name, kind)
}
