package flags_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/peald/peald/internal/flags"
)

// list is a value that collects strings.
type list struct{ texts []string }

func (l *list) String() string   { return strings.Join(l.texts, "+") }
func (l *list) Type() string     { return "list" }
func (l *list) Repeatable() bool { return true }

func (l *list) Set(text string) error {
	l.texts = append(l.texts, text)

	return nil
}

func TestOnce(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		line string
		want string // the error, or the values of the flags
	}{
		"each once":        {"sub --secret a --addr b --wait 2s --fast", "a b 2s true"},
		"nothing":          {"sub", "  1s false"},
		"text twice":       {"sub --secret a --secret hunter2", "--secret: set twice; want it at most once"},
		"same text twice":  {"sub --secret a --secret=a", "--secret: set twice; want it at most once"},
		"by short name":    {"sub -s a --secret hunter2", "--secret: set twice; want it at most once"},
		"duration":         {"sub --wait 1s --wait 1s", "--wait: set twice; want it at most once"},
		"boolean":          {"sub --fast --fast=false", "--fast: set twice; want it at most once"},
		"persistent flag":  {"--addr a sub --addr b", "--addr: set twice; want it at most once"},
		"list":             {"sub --topic a --topic b,c", "  1s false a b,c"},
		"list with commas": {"sub --names a --names b,c", "  1s false a b c"},
		"custom list":      {"sub --mine a --mine b", "  1s false a b"},
		"misspelled":       {"sub --secrat a", "unknown flag: --secrat; did you mean --secret?"},
		"invalid value":    {"sub --wait soon", `invalid argument "soon" for "--wait" flag: must be a duration like "30s" or "5m"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			got, err := run(strings.Fields(test.line))
			if err != nil {
				got = err.Error()
			}

			if got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// run runs a command that returns the values of its flags.
func run(args []string) (got string, err error) {
	root := &cobra.Command{Use: "root", SilenceErrors: true, SilenceUsage: true}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return flags.Error(cmd.Flags(), err) })
	addr := root.PersistentFlags().String("addr", "", "")

	sub := &cobra.Command{Use: "sub"}
	secret := sub.Flags().StringP("secret", "s", "", "")
	wait := sub.Flags().Duration("wait", time.Second, "")
	fast := sub.Flags().Bool("fast", false, "")
	topics := sub.Flags().StringArray("topic", nil, "")
	names := sub.Flags().StringSlice("names", nil, "")
	mine := &list{}
	sub.Flags().Var(mine, "mine", "")

	sub.RunE = func(*cobra.Command, []string) error {
		words := slices.Concat([]string{*secret, *addr, wait.String(), strconv.FormatBool(*fast)}, *topics, *names, mine.texts)
		got = strings.Join(words, " ")

		return nil
	}

	root.AddCommand(sub)
	flags.Once(root)
	root.SetArgs(args)

	err = root.Execute()

	return got, err
}
