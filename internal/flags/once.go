package flags

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Repeatable is a custom [pflag.Value] that may be set several times.
type Repeatable interface {
	pflag.Value

	// Repeatable reports whether the value collects everything it is set to.
	Repeatable() bool
}

// Once makes every flag of cmd and its subcommands return an error if it is set
// twice. By default pflag silently uses the last value. Flags that collect values
// may still be repeated. Their value is a [pflag.SliceValue] or a [Repeatable].
// Once must be called after all flags are defined.
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
// returns an error if it is.
func collects(value pflag.Value) bool {
	switch value := value.(type) {
	case *onceValue, pflag.SliceValue:
		return true
	case Repeatable:
		return value.Repeatable()
	}

	return false
}

// onceValue is a value that can be set only once.
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

// IsBoolFlag reports whether the flag is a boolean flag. It is called by pflag.
func (v *onceValue) IsBoolFlag() bool {
	b, ok := v.Value.(interface{ IsBoolFlag() bool })

	return ok && b.IsBoolFlag()
}

// repeatedError reports a flag that was set twice.
type repeatedError struct{ name string }

func (e *repeatedError) Error() string {
	return fmt.Sprintf("--%s: set twice; want it at most once", e.name)
}
