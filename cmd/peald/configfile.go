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

// configFile is a configuration file as it was read. Without a name it is none.
type configFile struct {
	name    string
	content []byte
}

// findFile reads the named file, or the first there is of the usual ones, or
// none.
func findFile(name string) (configFile, error) {
	if name != "" {
		return openFile(name)
	}
	for _, usual := range []string{"peald.yaml", "/etc/peald/peald.yaml"} {
		f, err := openFile(usual)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return configFile{}, nil
}

func openFile(name string) (configFile, error) {
	f := configFile{name: name}
	if _, ok := formats()[filepath.Ext(name)]; !ok {
		return f, &daemon.SettingError{Key: "--config", Given: strconv.Quote(name), Accepted: "a file .yaml, .yml, .toml or .json"}
	}
	var err error
	if f.content, err = os.ReadFile(name); err != nil { //nolint:gosec // Whoever starts the daemon says which.
		// The system's own words repeat the name.
		if path, ok := errors.AsType[*fs.PathError](err); ok {
			err = path.Err
		}
		return f, fmt.Errorf("configuration file %s: %w", name, err)
	}
	return f, nil
}

// formats are the formats of files, by the ends of their names.
func formats() map[string]configfile.Format {
	return map[string]configfile.Format{
		".yaml": configfile.YAML,
		".yml":  configfile.YAML,
		".toml": configfile.TOML,
		".json": configfile.JSON,
	}
}

// read returns what the file sets.
func (f configFile) read(settings []daemon.Setting) (layer, error) {
	if f.name == "" {
		return layer{}, nil
	}

	entries, err := configfile.Read(formats()[filepath.Ext(f.name)], f.content)
	if duplicate, ok := errors.AsType[*configfile.DuplicateError](err); ok {
		return nil, &daemon.SettingError{Key: duplicate.Key, Given: "twice in " + f.name + ", as " + duplicate.Places(), Accepted: "each entry once"}
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

// check rejects an entry that is no setting, and reports whether it sets one:
// an entry or section left empty doesn't.
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
		}
	}

	keys := make([]string, 0, len(settings))
	for _, s := range settings {
		keys = append(keys, s.Key)
	}

	return false, unknown(entry.Key, "an entry of "+f.name, keys)
}
