package testbed

import "runtime/debug"

// BuildFlags returns the go command's flags with which the test was compiled. With them,
// go build enables the race detector if the test does, and reuses compiled packages.
func BuildFlags() (flags []string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}

	for _, s := range info.Settings {
		switch {
		case s.Key == "-race" && s.Value == "true":
			flags = append(flags, "-race")
		case s.Key == "-tags":
			flags = append(flags, "-tags="+s.Value)
		}
	}

	return flags
}
