// Package webpage serves the daemon's own web pages. Their files are embedded in
// the program. Their content security policy permits only files from their own
// origin and calls to it.
//
// The package also holds the files that all pages share.
package webpage

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed shared
var shared embed.FS

// Shared returns the files that all pages share: their base style, scripts and
// icon.
func Shared() fs.FS {
	files, err := fs.Sub(shared, "shared")
	if err != nil {
		panic(err) // the name is valid
	}
	return files
}

// Protect sets the security headers of a page and of its files.
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

// Fill returns the page with each "{{name}}" replaced by the value of that name. Values
// may be used in text and in quoted attributes. The packages for templates call methods by
// name, so the linker couldn't remove unused methods from the program any more.
func Fill(page []byte, values map[string]string) []byte {
	pairs := make([]string, 0, 2*len(values))
	for name, value := range values {
		pairs = append(pairs, "{{"+name+"}}", html.EscapeString(value))
	}
	return []byte(strings.NewReplacer(pairs...).Replace(string(page)))
}

// HandleFiles registers handlers in mux for all files below the root of files.
// Their paths begin with prefix, which must end with a slash. It omits files for
// which skip returns true; if skip is nil, it omits none.
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
		return fmt.Errorf("reading a page's files: %w", err)
	}
	return nil
}

// file serves content that never changes while the daemon runs.
type file struct {
	name    string
	tag     string
	content []byte
}

// NewFile returns a handler that serves content. The extension of name determines
// its media type.
func NewFile(name string, content []byte) http.Handler {
	sum := sha256.Sum256(content)
	return &file{name, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, content}
}

// ServeHTTP implements [http.Handler].
func (f *file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The system's table of media types is ignored, because it differs between
	// systems.
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
