package ssehttp

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// acceptsStreams reports whether the client accepts text/event-stream (RFC 9110
// §12.5.1). A missing or empty Accept header accepts everything.
func acceptsStreams(header http.Header) bool {
	listed := slices.ContainsFunc(header["Accept"], func(line string) bool { return strings.Trim(line, ", \t") != "" })
	return !listed || accepts(header, "text/event-stream", "text/*", "*/*")
}

// acceptsStreamsByName reports whether the client lists text/event-stream itself,
// not just a wildcard.
func acceptsStreamsByName(header http.Header) bool { return accepts(header, "text/event-stream") }

func accepts(header http.Header, ranges ...string) bool {
	for _, line := range header["Accept"] {
		for part := range strings.SplitSeq(line, ",") {
			media, params, _ := strings.Cut(part, ";")
			media = strings.TrimSpace(media)
			for _, want := range ranges {
				if strings.EqualFold(media, want) && !hasZeroWeight(params) {
					return true
				}
			}
		}
	}
	return false
}

// hasZeroWeight reports whether a media range's parameters have a weight of 0.
func hasZeroWeight(params string) bool {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if q, err := strconv.ParseFloat(value, 64); strings.EqualFold(name, "q") && err == nil && q == 0 {
			return true
		}
	}
	return false
}
