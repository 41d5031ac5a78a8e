// Package console serves the operator's web page: charts of the daemon's stats,
// users and topics, the history and the retained values of any audience, a form that
// publishes, and a live tail of all messages.
//
// The page consists of static files. It calls the control plane's REST API with
// the operator's control token, so it has only the operator's permissions.
package console

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/peald/peald/internal/webpage"
)

const (
	pagePath  = "/"
	filesPath = "/console/"
)

//go:embed page
var files embed.FS

// Config holds what the page can't request over REST.
type Config struct {
	// Events is the URL at which the daemon's machine reaches the event stream.
	Events string
}

// Takes reports whether a path on the REST listener belongs to the console.
func Takes(urlPath string) bool {
	return urlPath == pagePath || strings.HasPrefix(urlPath, filesPath)
}

// New returns a handler for the paths that belong to the console.
func New(cfg Config) (http.Handler, error) {
	index, err := renderIndex(cfg)
	if err != nil {
		return nil, err
	}

	page, err := fs.Sub(files, "page")
	if err != nil {
		return nil, fmt.Errorf("console files: %w", err)
	}

	mux := http.NewServeMux()
	mux.Handle("GET "+pagePath+"{$}", index)

	isTemplate := func(name string) bool { return name == "index.html" }
	if err := errors.Join(
		webpage.HandleFiles(mux, filesPath, page, isTemplate),
		webpage.HandleFiles(mux, filesPath, webpage.Shared(), nil),
	); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		webpage.Protect(w.Header())
		mux.ServeHTTP(w, r)
	}), nil
}

func renderIndex(cfg Config) (http.Handler, error) {
	index, err := files.ReadFile("page/index.html")
	if err != nil {
		return nil, fmt.Errorf("reading the console page: %w", err)
	}

	return webpage.NewFile("index.html", webpage.Fill(index, map[string]string{"events": cfg.Events})), nil
}
