package cluster

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// nodeName returns the name of the node that dir belongs to. Other nodes know the node
// by this name, and the data in dir belongs to the node with this name. The first call
// for a directory generates the name, which is stored both in a file and in the node's
// marks. A damaged file is restored from the marks, so that the node keeps its name.
func nodeName(dir string, marks *marks, log *slog.Logger) (string, error) {
	const mode = 0o700
	if err := os.MkdirAll(dir, mode); err != nil {
		return "", fmt.Errorf("cluster.dir: %w", err)
	}
	file, recorded := filepath.Join(dir, "name"), marks.nodeName()
	data, err := os.ReadFile(file) //nolint:gosec // the operator names its directory
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the node's name: %w", err)
	}
	missing, name := err != nil, strings.TrimSpace(string(data))

	switch {
	case !missing && isNodeName(name) && (recorded == "" || name == recorded):
		return name, nil
	case !missing && isNodeName(name):
		return "", fmt.Errorf("%s: the name is %q, but %q in %s; remove the file with the wrong name", file, name, recorded, marks.path)
	case recorded != "":
		log.Error("restored the node's name", "file", file, "node", recorded)
		name = recorded
	case !missing:
		return "", fmt.Errorf("%s: invalid node name %q; restore the file, or empty the directory to start as a new node", file, data)
	default:
		name = newNodeName()
	}
	const private = 0o600
	if err := os.WriteFile(file, []byte(name+"\n"), private); err != nil {
		return "", fmt.Errorf("writing the node's name: %w", err)
	}
	return name, nil
}

// notInNames holds the characters that NATS rejects in a name or that have a special
// meaning in a subject or path.
const notInNames = " \t\n.*>/\\"

// isNodeName reports whether name is a valid node name.
func isNodeName(name string) bool {
	return name != "" && utf8.ValidString(name) && !strings.ContainsAny(name, notInNames) &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// newNodeName returns a unique name that starts with the host's name.
func newNodeName() string {
	const random = 6
	host, err := os.Hostname()
	if err != nil || !utf8.ValidString(host) {
		host = "node"
	}
	host = strings.Map(func(r rune) rune {
		if strings.ContainsRune(notInNames, r) || !unicode.IsPrint(r) {
			return '-'
		}
		return r
	}, host)
	return host + "-" + strings.ToLower(rand.Text()[:random])
}
