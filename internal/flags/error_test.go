package flags_test

import (
	"testing"

	"github.com/spf13/pflag"

	"github.com/peald/peald/internal/flags"
)

func TestError(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"--sse.adr=:1":   "unknown flag: --sse.adr; did you mean --sse.addr?",
		"--ca-fil=x":     "unknown flag: --ca-fil; did you mean --ca-file?",
		"--ca_file=x":    "unknown flag: --ca_file; did you mean --ca-file?",
		"--nonsense=1":   "unknown flag: --nonsense",
		"-x":             "unknown shorthand flag: 'x' in -x",
		"--sse.addr":     "flag needs an argument: --sse.addr",
		"--hiden-flag=1": "unknown flag: --hiden-flag",
	} {
		set := pflag.NewFlagSet("test", pflag.ContinueOnError)
		for _, name := range []string{"sse.addr", "ca-file", "hidden-flag"} {
			set.String(name, "", "")
		}
		if err := set.MarkHidden("hidden-flag"); err != nil {
			t.Fatal(err)
		}
		if err := flags.Error(set, set.Parse([]string{given})); err == nil || err.Error() != want {
			t.Errorf("%s: error is %q, want %q", given, err, want)
		}
	}
}
