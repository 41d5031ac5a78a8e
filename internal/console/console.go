// Package console is the page on which an operator sees what the daemon does,
// finds users and topics, publishes, and follows what is published.
//
// The page is files alone: all that it knows it asks of the control plane's
// REST calls, with the control token of whoever looks at it, so it can do no
// more than they.
package console

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
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

// Config is what the page has to be told, since REST doesn't.
type Config struct {
	// Events is the URL of the event stream, as somebody on the daemon's
	// machine reaches it.
	Events string
}

// Takes says whether a path of the REST listener is the console's.
func Takes(urlPath string) bool {
	return urlPath == pagePath || strings.HasPrefix(urlPath, filesPath)
}

// New returns a handler of the paths that the console takes.
func New(cfg Config) (http.Handler, error) {
	index, err := renderIndex(cfg)
	if err != nil {
		return nil, err
	}
	page, err := fs.Sub(files, "page")
	if err != nil {
		return nil, fmt.Errorf("the console's files: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+pagePath+"{$}", index)
	isTemplate := func(name string) bool { return name == "index.html" }
	if err := errors.Join(
		webpage.HandleFiles(mux, filesPath, page, isTemplate),
		webpage.HandleFiles(mux, filesPath, webpage.Shared(), nil),
	); err != nil {
		return nil, fmt.Errorf("the console: %w", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		webpage.Protect(w.Header())
		mux.ServeHTTP(w, r)
	}), nil
}

func renderIndex(cfg Config) (http.Handler, error) {
	index, err := template.ParseFS(files, "page/index.html")
	if err != nil {
		return nil, fmt.Errorf("the console's page: %w", err)
	}
	var page bytes.Buffer
	if err := index.Execute(&page, cfg); err != nil {
		return nil, fmt.Errorf("the console's page: %w", err)
	}
	return webpage.NewFile("index.html", page.Bytes()), nil
}
