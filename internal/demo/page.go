package demo

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/peald/peald/internal/webpage"
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
	page, err := fs.Sub(files, "page")
	if err != nil {
		return nil, fmt.Errorf("the demo's files: %w", err)
	}
	isTemplate := func(name string) bool { return name == "index.html" }
	if err := errors.Join(
		webpage.HandleFiles(own, filesPath, page, isTemplate),
		webpage.HandleFiles(own, filesPath, webpage.Shared(), nil),
	); err != nil {
		return nil, fmt.Errorf("the demo: %w", err)
	}
	// A mux cleans paths, and the stream's has to be compared as it came.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !Takes(r.URL.Path) {
			cfg.Streams.ServeHTTP(w, r)
			return
		}
		webpage.Protect(w.Header())
		own.ServeHTTP(w, r)
	}), nil
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
	return webpage.NewFile("index.html", page.Bytes()), nil
}
