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

const sourcesHelp = `Every setting is a flag (--sse.addr), a variable (PEALD_SSE_ADDR) and an entry of a
configuration file (sse: {addr: …}; YAML, TOML or JSON). Flags beat variables, variables beat
the file, the file beats the default. Without --config the file is ./peald.yaml or
/etc/peald/peald.yaml, if there is one. In a flag or variable, lists are separated by commas;
a token is name:token or name:token:scope+scope. An empty variable counts as not set.`

const variablePrefix = "PEALD_"

// variable is the name of a setting in the environment.
func variable(key string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// settingsFlags are the command line's share of the settings.
type settingsFlags struct {
	set        *pflag.FlagSet
	configFile *string
}

// settingFlags gives set a flag for every setting, and --config.
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

// completeSettings tells shells what can follow the flags of cmd.
func completeSettings(cmd *cobra.Command) {
	err := cmd.MarkPersistentFlagFilename("config", "yaml", "yml", "toml", "json")
	for _, s := range daemon.Defaults().Settings() {
		values := s.Choices
		if _, isBool := s.Value.(bool); isBool {
			values = []string{"true", "false"}
		}
		if strings.HasSuffix(s.Key, "_file") {
			continue // a shell's own way is to name files
		}
		err = errors.Join(err, cmd.RegisterFlagCompletionFunc(s.Key, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)))
	}

	if err != nil {
		panic(err) // a flag of this program's own is missing
	}
}

// rawValue keeps a flag's text as it was given, so that flags, variables and
// files are read by the same rules and refused in the same words.
type rawValue struct {
	kind string
	text string
	set  bool
}

func (v *rawValue) String() string { return v.text }
func (v *rawValue) Type() string   { return v.kind }

// Repeatable reports whether the flag may be given several times.
func (v *rawValue) Repeatable() bool { return v.kind == kindList || v.kind == kindTokens }

// Set makes one list of a list's flag that is given several times.
func (v *rawValue) Set(text string) error {
	if v.set && v.Repeatable() {
		text = v.text + "," + text
	}
	v.text, v.set = text, true
	return nil
}

// demoAddr is where browsers find the demo unless sse.addr is set. Whoever
// reaches it can take any name, which is nothing for a network.
const demoAddr = "127.0.0.1:8080"

// load reads the settings from where they may be set, and checks them.
func (f settingsFlags) load(env []string, demo bool) (daemon.Config, error) {
	file, err := findFile(*f.configFile)
	if err != nil {
		return daemon.Config{}, err
	}
	return f.loadFrom(file, env, demo)
}

// loadFrom is load with this file, which may be none.
func (f settingsFlags) loadFrom(file configFile, env []string, demo bool) (daemon.Config, error) {
	v := viper.New()
	origin := map[string]string{} // key → where its value was given
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

	return cfg, cfg.Validate() //nolint:wrapcheck // it names the setting, and is what the user reads
}

// layer is what one source sets, by key.
type layer map[string]given

type given struct {
	value  any
	origin string
}

// nested is the map of maps in which viper finds value at key.
func nested(key string, value any) map[string]any {
	section, rest, found := strings.Cut(key, ".")
	if !found {
		return map[string]any{key: value}
	}
	return map[string]any{section: nested(rest, value)}
}

// readVariables reads the variables with peald's prefix.
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
			return nil, &daemon.SettingError{Key: name, Given: "an environment variable that is no setting", Accepted: "--config FILE, ./peald.yaml or /etc/peald/peald.yaml"}
		case !serviceLink.MatchString(name):
			return nil, unknown(name, "an environment variable", slices.Collect(maps.Keys(known)))
		}
	}

	return values, nil
}

// serviceLinkPattern matches the variables that Kubernetes gives to every
// container beside a service named peald, or peald-something.
const serviceLinkPattern = `^PEALD_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`

func unknown(name, where string, known []string) error {
	accepted := "those that peald config --defaults shows"
	if meant, ok := nearest.To(name, known); ok {
		accepted = "the nearest is " + meant
	}
	return &daemon.SettingError{Key: name, Given: where + " that is no setting", Accepted: accepted}
}
