package ssehttp

import (
	"bytes"
	"net/http"
	"sync/atomic"
	"time"
)

// heads makes response heads. Streams that are opened in the same second share a head,
// unless they need special headers.
type heads struct {
	plain, gzip atomic.Pointer[head] // the last ones, by content coding
}

type head struct {
	second int64
	vary   string // depends on settings that can change
	bytes  []byte
}

// of returns the response head for a stream with the given headers. A body that
// isn't chunked has no declared length and ends when the connection is closed
// (RFC 9112 §6.3).
func (h *heads) of(header http.Header, chunked bool, now time.Time) []byte {
	header.Del("Connection") // written below
	_, special := header["Access-Control-Allow-Origin"]
	special = special || !chunked
	shared := &h.plain
	if header.Get("Content-Encoding") != "" {
		shared = &h.gzip
	}
	second, vary := now.Unix(), header.Get("Vary")
	if last := shared.Load(); !special && last != nil && last.second == second && last.vary == vary {
		return last.bytes
	}

	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\nDate: ")
	b.WriteString(now.UTC().Format(http.TimeFormat))
	b.WriteString("\r\nConnection: close\r\n")
	if chunked {
		b.WriteString("Transfer-Encoding: chunked\r\n")
	}
	_ = header.Write(&b) // writing to a buffer can't fail
	b.WriteString("\r\n")

	added := &head{second: second, vary: vary, bytes: b.Bytes()}
	if !special {
		shared.Store(added)
	}
	return added.bytes
}
