package ssehttp

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"time"
)

// ModulePath is the path of the module that pages import; see [Config].
const ModulePath = "/peald.js"

// Module is an ECMAScript module in both of the content codings that clients may
// ask for.
type Module struct{ plain, gzip representation }

type representation struct {
	etag    string
	content []byte
}

// NewModule returns a module with this source.
func NewModule(source []byte) *Module {
	var zipped bytes.Buffer
	w, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression) // the level is valid
	_, _ = w.Write(source)                                     // writing to a buffer can't fail
	_ = w.Close()

	return &Module{newRepresentation(source), newRepresentation(zipped.Bytes())}
}

func newRepresentation(content []byte) representation {
	sum := sha256.Sum256(content)
	return representation{`"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, content}
}

// serve responds to a request for the module. Clients may keep it, but must ask whether
// it has changed, so that pages and the daemon still match after an upgrade.
func (m *Module) serve(w http.ResponseWriter, r *http.Request) {
	header, body := w.Header(), &m.plain
	if acceptsGzip(r.Header) {
		body = &m.gzip
		header.Set("Content-Encoding", "gzip")
	}
	header["Vary"] = []string{strings.Join(append(header["Vary"], "Accept-Encoding"), ", ")}
	header.Set("Content-Type", "text/javascript; charset=utf-8")
	header.Set("Cache-Control", "no-cache")
	header.Set("ETag", body.etag)
	header.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, ModulePath, time.Time{}, bytes.NewReader(body.content))
}
