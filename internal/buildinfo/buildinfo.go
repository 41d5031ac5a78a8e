// Package buildinfo returns the version of the running program. The go command
// records it in each program from the state of the Git repository.
package buildinfo

import (
	"runtime/debug"
	"strings"
)

// Unknown is returned if nothing was recorded.
const Unknown = "unknown"

// Version returns the tag of a release such as "v1.2.3", a pseudo-version that
// contains the commit, or "(devel)". It ends with "+dirty" if files were modified.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return version(info)
	}

	return Unknown
}

// Line returns the version, followed in parentheses by the commit, its time, the
// Go version and the platform, as a single line.
func Line() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Unknown
	}

	return line(info)
}

// Revision returns the commit. It ends with "+dirty" if files were modified.
func Revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return revision(info)
	}

	return Unknown
}

func revision(info *debug.BuildInfo) string {
	commit, suffix := Unknown, ""

	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			commit = setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			suffix = "+dirty"
		}
	}

	return commit + suffix
}

func version(info *debug.BuildInfo) string {
	if info.Main.Version == "" {
		return Unknown
	}

	return info.Main.Version
}

func line(info *debug.BuildInfo) string {
	settings := make(map[string]string, len(info.Settings))
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}

	var details []string

	if revision := settings["vcs.revision"]; revision != "" {
		details = append(details, "revision "+revision)
	}

	if time := settings["vcs.time"]; time != "" {
		details = append(details, time)
	}

	details = append(details, info.GoVersion)
	if settings["GOOS"] != "" {
		details = append(details, settings["GOOS"]+"/"+settings["GOARCH"])
	}

	return version(info) + " (" + strings.Join(details, ", ") + ")"
}
