package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/configfile"
)

// configFile is a configuration file and its content. An empty name means that
// there is no file.
type configFile struct {
	name    string
	content []byte
}

// findFile reads the named file. If name is empty, it reads the first of the
// default files that exists, and returns no file if none does.
func findFile(name string) (configFile, error) {
	if name != "" {
		return openFile(name)
	}
	for _, path := range []string{"peald.yaml", "/etc/peald/peald.yaml"} {
		f, err := openFile(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return configFile{}, nil
}

func openFile(name string) (configFile, error) {
	f := configFile{name: name}
	if _, ok := formats()[filepath.Ext(name)]; !ok {
		return f, &daemon.SettingError{Key: "--config", Given: strconv.Quote(name), Accepted: "a .yaml, .yml, .toml or .json file"}
	}
	var err error
	if f.content, err = os.ReadFile(name); err != nil { //nolint:gosec // The operator chooses the path.
		// A PathError would repeat the name.
		if path, ok := errors.AsType[*fs.PathError](err); ok {
			err = path.Err
		}
		return f, fmt.Errorf("configuration file %s: %w", name, err)
	}
	return f, nil
}

// formats returns the file formats by file name extension.
func formats() map[string]configfile.Format {
	return map[string]configfile.Format{
		".yaml": configfile.YAML,
		".yml":  configfile.YAML,
		".toml": configfile.TOML,
		".json": configfile.JSON,
	}
}

// read returns the settings in the file.
func (f configFile) read(settings []daemon.Setting) (layer, error) {
	if f.name == "" {
		return layer{}, nil
	}

	entries, err := configfile.Read(formats()[filepath.Ext(f.name)], f.content)
	if duplicate, ok := errors.AsType[*configfile.DuplicateError](err); ok {
		return nil, fmt.Errorf("%s: set twice in %s, as %s; want each key once", duplicate.Key, f.name, duplicate.Positions())
	}
	if err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", f.name, err)
	}

	values := layer{}
	for _, entry := range entries {
		isSet, err := f.check(entry, settings)
		if err != nil {
			return nil, err
		}
		if isSet {
			values[entry.Key] = given{entry.Value, f.name}
		}
	}

	return values, nil
}

// check returns an error if an entry isn't a setting. It reports whether the
// entry sets a value. An empty entry or section sets none.
func (f configFile) check(entry configfile.Entry, settings []daemon.Setting) (isSet bool, err error) {
	inner, isSection := entry.Value.(map[string]any)
	isEmpty := entry.Value == nil || entry.Value == "" || isSection && len(inner) == 0

	for _, s := range settings {
		switch {
		case s.Key == entry.Key && isSection:
			return false, &daemon.SettingError{Key: s.Key, Given: "a section in " + f.name, Accepted: s.Accepts()}
		case s.Key == entry.Key:
			return !isEmpty || s.Empty && entry.Value == "", nil
		case strings.HasPrefix(s.Key, entry.Key+".") && isEmpty:
			return false, nil
		case strings.HasPrefix(s.Key, entry.Key+"."):
			accepted := "a section with settings such as " + s.Key
			return false, &daemon.SettingError{Key: entry.Key, Given: "a value in " + f.name, Accepted: accepted}
		}
	}

	keys := make([]string, 0, len(settings))
	for _, s := range settings {
		keys = append(keys, s.Key)
	}

	return false, unknown(entry.Key, "setting in "+f.name, keys)
}
