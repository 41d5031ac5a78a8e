package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/viper"

	"github.com/peald/peald/daemon"
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
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".toml", ".json":
	default:
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

// read is what the file sets.
func (f configFile) read(keys []string) (layer, error) {
	if f.name == "" {
		return layer{}, nil
	}
	file := viper.New()
	file.SetConfigType(strings.TrimPrefix(filepath.Ext(f.name), "."))
	if err := file.ReadConfig(bytes.NewReader(f.content)); err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", f.name, err)
	}
	values := layer{}
	for _, key := range slices.Sorted(slices.Values(file.AllKeys())) {
		value := file.Get(key)
		switch {
		case value == nil && slices.ContainsFunc(keys, func(known string) bool {
			return known == key || strings.HasPrefix(known, key+".")
		}):
			// An entry or section left empty is not set.
		case !slices.Contains(keys, key):
			return nil, unknown(key, "an entry of "+f.name, keys)
		default:
			values[key] = given{value, f.name}
		}
	}
	return values, nil
}
