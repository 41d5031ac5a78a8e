// Package flags rejects mistakes on command lines that pflag accepts, and
// improves its errors.
package flags

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/peald/peald/internal/nearest"
)

// Error returns err, an error of parsing a command line with set, as the user
// should read it: an unknown flag with the nearest known one, and a repeated
// flag without its value, which may be a secret.
func Error(set *pflag.FlagSet, err error) error {
	if repeated, ok := errors.AsType[*repeatedError](err); ok {
		return repeated
	}

	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || unknown.GetSpecifiedShortnames() != "" {
		return err
	}

	var known []string
	set.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, f.Name)
		}
	})

	name, ok := nearest.To(unknown.GetSpecifiedName(), known)
	if !ok {
		return err
	}

	return fmt.Errorf("%w; the nearest is --%s", err, name)
}
