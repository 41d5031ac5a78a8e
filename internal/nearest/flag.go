package nearest

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
)

// Flag adds the flag that was meant to an error about one that doesn't exist.
// It returns any other error as it is.
func Flag(flags *pflag.FlagSet, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || unknown.GetSpecifiedShortnames() != "" {
		return err
	}

	var known []string
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, f.Name)
		}
	})
	name, ok := To(unknown.GetSpecifiedName(), known)
	if !ok {
		return err
	}

	return fmt.Errorf("%w; the nearest is --%s", err, name)
}
