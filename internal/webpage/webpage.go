// Package webpage serves the daemon's own web pages: files that are part of the
// program, under a policy that lets them load what lies beside them and call
// their own origin, and do no more.
//
// What pages have in common, their icon and the beginning of their style, is
// here too.
package webpage

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed shared
var shared embed.FS

// Shared are the files that all pages have: base.css and icon.svg.
func Shared() fs.FS {
	files, err := fs.Sub(shared, "shared")
	if err != nil {
		panic(err) // the name is a valid one
	}
	return files
}

// Protect sets the headers of a page and of all that belongs to it.
func Protect(header http.Header) {
	header.Set("Content-Security-Policy", strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src 'self'",
		"connect-src 'self'",
		"form-action 'none'",
		"base-uri 'none'",
		"frame-ancestors 'none'",
		"require-trusted-types-for 'script'",
		"trusted-types 'none'",
	}, "; "))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cache-Control", "no-cache")
}

// HandleFiles has mux serve the files of a folder and those below it under
// prefix, which ends with a slash. Files for which skip says so are left out.
func HandleFiles(mux *http.ServeMux, prefix string, files fs.FS, skip func(name string) bool) error {
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || skip != nil && skip(name) {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		mux.Handle("GET "+prefix+name, NewFile(name, content))
		return nil
	})
	if err != nil {
		return fmt.Errorf("a page's files: %w", err)
	}
	return nil
}

// file is one that never changes while the daemon runs.
type file struct {
	name    string
	tag     string
	content []byte
}

// NewFile returns a handler of a file, whose name tells its type.
func NewFile(name string, content []byte) http.Handler {
	sum := sha256.Sum256(content)
	return &file{name, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, content}
}

// ServeHTTP implements [http.Handler].
func (f *file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The system's own table of types is not asked: it could know better.
	kind, ok := map[string]string{
		".html": "text/html; charset=utf-8",
		".css":  "text/css; charset=utf-8",
		".js":   "text/javascript; charset=utf-8",
		".svg":  "image/svg+xml",
	}[path.Ext(f.name)]
	if !ok {
		kind = "text/plain; charset=utf-8"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("ETag", f.tag)
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.content))
}
