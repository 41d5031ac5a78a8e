// Package buildinfo tells which peald this is. The go command writes it into
// each program that it builds, out of git: nothing has to be passed to it.
package buildinfo

import (
	"runtime/debug"
	"strings"
)

// Unknown stands where nothing was recorded.
const Unknown = "unknown"

// Version is a release's tag such as "v1.2.3", a pseudo-version that names the
// commit, or "(devel)"; with "+dirty" at its end if files had been changed.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return of(info)
	}

	return Unknown
}

// Line is the version, and in brackets from which commit and by which Go, in
// one line.
func Line() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Unknown
	}

	return line(info)
}

// Revision is the commit, with "+dirty" at its end if files had been changed.
func Revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return revision(info)
	}

	return Unknown
}

func revision(info *debug.BuildInfo) string {
	found, changed := Unknown, ""

	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			found = setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			changed = "+dirty"
		}
	}

	return found + changed
}

func of(info *debug.BuildInfo) string {
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

	var from []string

	if revision := settings["vcs.revision"]; revision != "" {
		from = append(from, "revision "+revision)
	}

	if time := settings["vcs.time"]; time != "" {
		from = append(from, time)
	}

	from = append(from, info.GoVersion)
	if settings["GOOS"] != "" {
		from = append(from, settings["GOOS"]+"/"+settings["GOARCH"])
	}

	return of(info) + " (" + strings.Join(from, ", ") + ")"
}
