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

// nodeName returns the name that a node has in its directory, made when it is
// first asked for: other nodes know it by that, and what is on its disk is its
// own. The name is in a file, and recorded elsewhere in the directory: a file
// that is damaged is written again, so that the node doesn't become another one.
func nodeName(dir string, marks *marks, log *slog.Logger) (string, error) {
	const mode = 0o700
	if err := os.MkdirAll(dir, mode); err != nil {
		return "", fmt.Errorf("the directory of the cluster's log: %w", err)
	}
	file, recorded := filepath.Join(dir, "name"), marks.nodeName()
	data, err := os.ReadFile(file) //nolint:gosec // the operator names its directory
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the node's name: %w", err)
	}
	missing, name := err != nil, strings.TrimSpace(string(data))

	switch {
	case !missing && isNodeName(name) && (recorded == "" || name == recorded):
		return name, nil
	case !missing && isNodeName(name):
		return "", fmt.Errorf("%s: the name is %q, but %q in %s; remove the wrong file of the two", file, name, recorded, marks.path)
	case recorded != "":
		log.Error("restored the node's name", "file", file, "node", recorded)
		name = recorded
	case !missing:
		return "", fmt.Errorf("%s: %q is no name of a node; restore the file, or empty the directory to make this another node", file, data)
	default:
		name = newNodeName()
	}
	const private = 0o600
	if err := os.WriteFile(file, []byte(name+"\n"), private); err != nil {
		return "", fmt.Errorf("the node's name: %w", err)
	}
	return name, nil
}

// notInNames are the characters that NATS doesn't take in a name, or that would
// be part of a subject or path.
const notInNames = " \t\n.*>/\\"

// isNodeName reports whether a node can have a name.
func isNodeName(name string) bool {
	return name != "" && utf8.ValidString(name) && !strings.ContainsAny(name, notInNames) &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// newNodeName returns a name after the host's that no other node has.
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
