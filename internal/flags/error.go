// Package flags rejects mistakes on command lines that pflag accepts, and
// improves its errors.
package flags

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/peald/peald/internal/nearest"
)

// Error improves an error from parsing a command line with set. The error for an
// unknown flag suggests a similar one. The error for a repeated flag omits the
// value, which may be a secret.
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

	return fmt.Errorf("%w; did you mean --%s?", err, name)
}
