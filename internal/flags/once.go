package flags

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Repeatable is a [pflag.Value] of a type of its own that may be set several
// times.
type Repeatable interface {
	pflag.Value

	// Repeatable reports whether the value collects what it is set to.
	Repeatable() bool
}

// Once makes every flag of cmd and its subcommands fail if a command line has it
// twice, where pflag would use the last value silently. Flags that collect
// values, which are those with a [pflag.SliceValue] or a [Repeatable], may still
// be repeated. It must be called once all flags are defined.
func Once(cmd *cobra.Command) {
	for _, set := range []*pflag.FlagSet{cmd.PersistentFlags(), cmd.Flags()} {
		set.VisitAll(func(f *pflag.Flag) {
			if !collects(f.Value) {
				f.Value = &onceValue{Value: f.Value, name: f.Name}
			}
		})
	}

	for _, sub := range cmd.Commands() {
		Once(sub)
	}
}

// collects reports whether a flag with this value may be repeated, or already
// fails when it is.
func collects(value pflag.Value) bool {
	switch value := value.(type) {
	case *onceValue, pflag.SliceValue:
		return true
	case Repeatable:
		return value.Repeatable()
	}

	return false
}

// onceValue is a value that can be set once.
type onceValue struct {
	pflag.Value

	name string
	set  bool
}

// Set implements [pflag.Value].
func (v *onceValue) Set(text string) error {
	if v.set {
		return &repeatedError{v.name}
	}

	v.set = true

	return v.Value.Set(text)
}

// IsBoolFlag reports whether the flag is a switch. pflag asks for it.
func (v *onceValue) IsBoolFlag() bool {
	b, ok := v.Value.(interface{ IsBoolFlag() bool })

	return ok && b.IsBoolFlag()
}

// repeatedError is a flag that was given twice.
type repeatedError struct{ name string }

func (e *repeatedError) Error() string {
	return fmt.Sprintf("--%s: given twice; want it at most once", e.name)
}
