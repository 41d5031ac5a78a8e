package demo

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/peald/peald/internal/webpage"
)

// Config configures the page. Every field is required unless marked otherwise.
type Config struct {
	// Events is the path of the event stream, on the page's own origin.
	Events string
	// Anonymous allows visitors without a name. The stream must allow them too.
	Anonymous bool
	// Control is the curl argument for the base URL of the control plane's REST
	// listener, with the options needed to reach it. The page appends paths.
	Control string
	// ControlToken reports whether the control plane requires a token. If so,
	// the page doesn't publish.
	ControlToken bool
	// Tokens signs the tokens of visitors who pick a name.
	Tokens Minter
	// Publisher publishes the visitors' messages.
	Publisher Publisher
	// Streams serves every path that isn't the page's own. Among them must be the
	// client for pages, at /peald.js.
	Streams http.Handler
}

// Minter signs a subscriber token for a user and topics, valid for ttl.
type Minter interface {
	Mint(user string, topics []string, ttl time.Duration) (token string, expires time.Time, err error)
}

const (
	pagePath    = "/"
	filesPath   = "/demo/"
	tokenPath   = "/demo/token"
	publishPath = "/demo/publish"
)

//go:embed page
var files embed.FS

// Takes reports whether a path belongs to the page, so that no stream can be
// served there.
func Takes(urlPath string) bool {
	return urlPath == pagePath || urlPath+"/" == filesPath || strings.HasPrefix(urlPath, filesPath)
}

// New returns a handler that serves the page at / and its files under /demo/, and
// passes everything else to cfg.Streams.
func New(cfg Config) (http.Handler, error) {
	if Takes(cfg.Events) {
		return nil, fmt.Errorf("the stream's path %s belongs to the demo page, which uses %s and %s", cfg.Events, pagePath, filesPath)
	}

	if cfg.Tokens == nil || cfg.Publisher == nil || cfg.Streams == nil {
		return nil, errors.New("the demo page requires Tokens, Publisher and Streams")
	}

	index, err := renderIndex(cfg)
	if err != nil {
		return nil, err
	}

	page, err := fs.Sub(files, "page")
	if err != nil {
		return nil, fmt.Errorf("demo files: %w", err)
	}

	own := http.NewServeMux()
	sameOrigin := http.NewCrossOriginProtection()

	own.Handle("GET "+pagePath+"{$}", index)
	own.Handle("POST "+tokenPath, sameOrigin.Handler(&tokenHandler{cfg}))
	own.Handle("POST "+publishPath, sameOrigin.Handler(&publishHandler{cfg}))

	isTemplate := func(name string) bool { return name == "index.html" }
	if err := errors.Join(
		webpage.HandleFiles(own, filesPath, page, isTemplate),
		webpage.HandleFiles(own, filesPath, webpage.Shared(), nil),
	); err != nil {
		return nil, fmt.Errorf("demo page: %w", err)
	}

	// A mux cleans paths, but the stream's path must be compared unchanged.
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
	index, err := files.ReadFile("page/index.html")
	if err != nil {
		return nil, fmt.Errorf("reading the demo page: %w", err)
	}

	return webpage.NewFile("index.html", webpage.Fill(index, map[string]string{
		"events":        cfg.Events,
		"control":       cfg.Control,
		"control-token": strconv.FormatBool(cfg.ControlToken),
		"anonymous":     strconv.FormatBool(cfg.Anonymous),
	})), nil
}
