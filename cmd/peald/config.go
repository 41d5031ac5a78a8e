package main

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/peald/peald/daemon"
)

// mask replaces secrets. It is neither a valid secret nor a valid token, so a
// printed configuration can't be used by mistake.
const mask = "********"

func configCommand(flags settingsFlags, env []string) *cobra.Command {
	var defaults bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the effective configuration as YAML",
		Long: `Print the configuration that the daemon would run with, as YAML. Secrets are
masked. With --defaults the output is a commented configuration file.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if defaults {
				return printConfig(cmd.OutOrStdout(), daemon.Defaults(), true)
			}
			cfg, err := flags.load(env, false)
			if err != nil {
				return err
			}
			return printConfig(cmd.OutOrStdout(), cfg, false)
		},
	}

	cmd.Flags().BoolVar(&defaults, "defaults", false, "print the defaults with comments, as a template for a configuration file")
	return cmd
}

// printConfig writes cfg as a configuration file, with secrets masked.
func printConfig(w io.Writer, cfg daemon.Config, commented bool) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	sections := map[string]*yaml.Node{"": root}

	for _, s := range cfg.Settings() {
		path := strings.Split(s.Key, ".")
		last := len(path) - 1
		parent := root

		for i := range last {
			name := strings.Join(path[:i+1], ".")
			section, ok := sections[name]
			if !ok {
				section = &yaml.Node{Kind: yaml.MappingNode}
				sections[name] = section
				parent.Content = append(parent.Content, textNode(path[i]), section)
			}
			parent = section
		}

		key, value := textNode(path[last]), &yaml.Node{}
		if err := value.Encode(printable(s)); err != nil {
			return fmt.Errorf("%s: %w", s.Key, err)
		}

		if commented {
			key.HeadComment = s.Doc
			if !s.Reload {
				key.HeadComment += " A change requires a restart."
			}
		}

		parent.Content = append(parent.Content, key, value)
	}

	out := yaml.NewEncoder(w)
	out.SetIndent(2)

	if err := errors.Join(out.Encode(root), out.Close()); err != nil {
		return fmt.Errorf("print the configuration: %w", err)
	}

	return nil
}

func textNode(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: text}
}

// printable returns the value of a setting as it appears in a configuration file.
func printable(s daemon.Setting) any {
	switch value := s.Value.(type) {
	case time.Duration:
		return value.String()
	case []string:
		return append([]string{}, value...) // [], not null
	case []daemon.Token:
		masked := make([]printedToken, 0, len(value))
		for _, token := range value {
			masked = append(masked, printedToken{token.Name, mask, append([]string{}, token.Scopes...)})
		}
		return masked
	case []daemon.Hook:
		hooks := make([]printedHook, 0, len(value))
		for _, h := range value {
			printed := printedHook{URL: h.Name(), Events: append([]string{}, h.Events...), Secret: mask}
			if h.Delay != nil {
				printed.Delay = h.Delay.String()
			}
			hooks = append(hooks, printed)
		}
		return hooks
	case []daemon.Source:
		sources := make([]printedSection, 0, len(value))
		for _, source := range value {
			sources = append(sources, printedSection{reflect.ValueOf(source)})
		}
		return sources
	case []daemon.TopicPolicy:
		policies := make([]printedPolicy, 0, len(value))
		for _, p := range value {
			printed := printedPolicy{Pattern: p.Pattern, Retain: p.Retain, SlowConsumer: p.SlowConsumer, Anonymous: p.Anonymous}
			printed.History.MaxEvents = p.History.MaxEvents
			if p.History.MaxAge != nil {
				printed.History.MaxAge = p.History.MaxAge.String()
			}
			policies = append(policies, printed)
		}
		return policies
	case string:
		if s.Secret && value != "" {
			return mask
		}
		return value
	default:
		return value
	}
}

// printedSection is a section in an entry of sources. Only fields that aren't empty are
// printed, and those with the tag secret are masked.
type printedSection struct{ section reflect.Value }

// MarshalYAML implements [yaml.Marshaler].
func (p printedSection) MarshalYAML() (any, error) {
	node := &yaml.Node{Kind: yaml.MappingNode}

	for field, value := range p.section.Fields() {
		if value.IsZero() {
			continue
		}

		entry, printed := new(yaml.Node), value.Interface()
		switch value = reflect.Indirect(value); {
		case value.Kind() == reflect.Struct:
			printed = printedSection{value}
		case field.Tag.Get("secret") == "true":
			printed = mask
		}
		if err := entry.Encode(printed); err != nil {
			return nil, fmt.Errorf("%s: %w", field.Name, err)
		}
		node.Content = append(node.Content, textNode(field.Tag.Get("mapstructure")), entry)
	}

	return node, nil
}

// printedToken is an entry of control.tokens.
type printedToken struct {
	Name   string   `yaml:"name"`
	Token  string   `yaml:"token"`
	Scopes []string `yaml:"scopes,flow"`
}

// printedHook is an entry of hooks. Its URL lacks the parts that may be secret.
type printedHook struct {
	URL    string   `yaml:"url"`
	Events []string `yaml:"events,flow"`
	Secret string   `yaml:"secret"`
	Delay  string   `yaml:"delay,omitempty"`
}

// printedPolicy is an entry of topics.
type printedPolicy struct {
	Pattern string `yaml:"pattern"`
	History struct {
		MaxEvents *int   `yaml:"max_events,omitempty"`
		MaxAge    string `yaml:"max_age,omitempty"`
	} `yaml:"history,omitempty,flow"`
	Retain       *bool  `yaml:"retain,omitempty"`
	SlowConsumer string `yaml:"slow_consumer,omitempty"`
	Anonymous    *bool  `yaml:"anonymous,omitempty"`
}
