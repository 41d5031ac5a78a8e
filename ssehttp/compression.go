package ssehttp

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strconv"
	"strings"
)

// negotiate reports whether to compress the body of a stream with gzip, and sets the
// headers accordingly.
func (rules *rules) negotiate(response, request http.Header) bool {
	if !rules.cfg.Compression {
		return false
	}
	response["Vary"] = []string{strings.Join(append(response["Vary"], "Accept-Encoding"), ", ")}
	if !acceptsGzip(request) {
		return false
	}
	response.Set("Content-Encoding", "gzip")
	return true
}

// acceptsGzip reports whether a client accepts gzip and doesn't prefer a body
// without a content coding (RFC 9110 §12.5.3). A client that sends no
// Accept-Encoding may not support any coding.
func acceptsGzip(header http.Header) bool {
	const unlisted = -1
	zipped, identity, others := float64(unlisted), float64(unlisted), float64(unlisted)
	for _, line := range header["Accept-Encoding"] {
		for part := range strings.SplitSeq(line, ",") {
			coding, params, _ := strings.Cut(part, ";")
			switch strings.ToLower(strings.TrimSpace(coding)) {
			case "gzip", "x-gzip": // the same coding (RFC 9110 §8.4.1.3)
				zipped = max(zipped, weight(params))
			case "identity":
				identity = weight(params)
			case "*":
				others = weight(params)
			}
		}
	}

	if zipped == unlisted {
		zipped = others
	}
	if identity == unlisted {
		identity = others
	}
	return zipped > 0 && zipped >= identity
}

// weight returns the weight in the parameters of a coding (RFC 9110 §12.4.2). It
// is 1 by default, and 0 if it is invalid.
func weight(params string) float64 {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if !strings.EqualFold(name, "q") {
			continue
		}
		if q, err := strconv.ParseFloat(value, 64); err == nil && q >= 0 && q <= 1 {
			return q
		}
		return 0
	}
	return 1
}

// gzipBody compresses a whole body with gzip.
func gzipBody(p []byte) []byte {
	var body bytes.Buffer
	coding := gzip.NewWriter(&body)
	_, _ = coding.Write(p) // writing to a buffer can't fail
	_ = coding.Close()
	return body.Bytes()
}
