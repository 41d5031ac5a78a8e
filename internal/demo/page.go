package demo

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// Config is how the page is set up. Every field is required but those that say
// otherwise.
type Config struct {
	// Events is the path of the event stream, on the page's own origin.
	Events string
	// Cookie is the name of the cookie in which the stream takes a token.
	Cookie string
	// Anonymous says whether the stream takes visitors without a token.
	Anonymous bool
	// Control is what the page's commands tell curl before a path, to reach the
	// control plane's REST listener: its base URL, if it has one.
	Control string
	// ControlToken says whether the control plane asks for a token.
	ControlToken bool
	// Tokens mints the tokens of visitors who pick a name.
	Tokens Minter
	// Streams serves all that is not the page's own.
	Streams http.Handler
}

// Minter signs a subscriber token for a user, which is good for ttl.
type Minter interface {
	Mint(user string, topics []string, ttl time.Duration) (token string, expires time.Time, err error)
}

const (
	pagePath  = "/"
	filesPath = "/demo/"
	tokenPath = "/demo/token"
)

//go:embed page
var files embed.FS

// Takes says whether the page has a path of its own to itself, so that no
// stream can be served there.
func Takes(urlPath string) bool {
	return urlPath == pagePath || urlPath+"/" == filesPath || strings.HasPrefix(urlPath, filesPath)
}

// New returns a handler of the page at /, what it needs under /demo/, and of
// cfg.Streams for the rest.
func New(cfg Config) (http.Handler, error) {
	if Takes(cfg.Events) {
		return nil, fmt.Errorf("the demo's page needs %s and %s for itself, and the stream is at %s", pagePath, filesPath, cfg.Events)
	}
	if cfg.Cookie == "" || cfg.Tokens == nil || cfg.Streams == nil {
		return nil, errors.New("the demo's page needs a cookie, somebody who mints tokens, and streams")
	}
	index, err := renderIndex(cfg)
	if err != nil {
		return nil, err
	}
	own := http.NewServeMux()
	own.Handle("GET "+pagePath+"{$}", index)
	own.Handle("POST "+tokenPath, http.NewCrossOriginProtection().Handler(&tokenHandler{cfg}))
	if err := handleFiles(own); err != nil {
		return nil, err
	}
	// A mux cleans paths, and the stream's has to be compared as it came.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !Takes(r.URL.Path) {
			cfg.Streams.ServeHTTP(w, r)
			return
		}
		protect(w.Header())
		own.ServeHTTP(w, r)
	}), nil
}

// protect sets the headers of everything but streams. The page loads what lies
// beside it, calls its own origin, and does no more.
func protect(header http.Header) {
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

func renderIndex(cfg Config) (http.Handler, error) {
	index, err := template.ParseFS(files, "page/index.html")
	if err != nil {
		return nil, fmt.Errorf("the demo's page: %w", err)
	}
	var page bytes.Buffer
	if err := index.Execute(&page, cfg); err != nil {
		return nil, fmt.Errorf("the demo's page: %w", err)
	}
	return newFile("index.html", page.Bytes()), nil
}

func handleFiles(mux *http.ServeMux) error {
	entries, err := fs.ReadDir(files, "page")
	if err != nil {
		return fmt.Errorf("the demo's files: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == "index.html" {
			continue // a template
		}
		content, err := fs.ReadFile(files, path.Join("page", entry.Name()))
		if err != nil {
			return fmt.Errorf("the demo's files: %w", err)
		}
		mux.Handle("GET "+filesPath+entry.Name(), newFile(entry.Name(), content))
	}
	return nil
}

// file is one that never changes while the daemon runs.
type file struct {
	name    string
	tag     string
	content []byte
}

func newFile(name string, content []byte) *file {
	sum := sha256.Sum256(content)
	return &file{name, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, content}
}

func (f *file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The system's own table of types is not asked: it could know better.
	w.Header().Set("Content-Type", map[string]string{
		".html": "text/html; charset=utf-8",
		".css":  "text/css; charset=utf-8",
		".js":   "text/javascript; charset=utf-8",
		".svg":  "image/svg+xml",
	}[path.Ext(f.name)])
	w.Header().Set("ETag", f.tag)
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.content))
}
