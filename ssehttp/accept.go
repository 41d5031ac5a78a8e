package ssehttp

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// format is the format of a response.
type format uint8

const (
	noFormat format = iota // the client accepts none of the formats
	streamFormat
	jsonFormat
)

// formatOf returns the format of the response to a client. That is JSON if the client
// prefers it to an event stream (RFC 9110 §12.5.1).
func formatOf(header http.Header) format {
	switch {
	case mediaWeight(header, "application", "json") > mediaWeight(header, "text", "event-stream"):
		return jsonFormat
	case acceptsStreams(header):
		return streamFormat
	}
	return noFormat
}

// mediaWeight returns the weight of the most specific range that matches a media type,
// or 0 if no range matches.
func mediaWeight(header http.Header, typ, subtype string) (weight float64) {
	ranges := []string{"*/*", typ + "/*", typ + "/" + subtype}
	matched := -1
	for _, line := range header["Accept"] {
		for part := range strings.SplitSeq(line, ",") {
			media, params, _ := strings.Cut(part, ";")
			media = strings.TrimSpace(media)
			i := slices.IndexFunc(ranges, func(r string) bool { return strings.EqualFold(r, media) })
			switch w := acceptWeight(params); {
			case i > matched:
				matched, weight = i, w
			case i == matched && i >= 0:
				weight = max(weight, w)
			}
		}
	}
	return weight
}

// acceptWeight returns the weight in the parameters of a media range. It is 1 if the
// weight is missing or malformed.
func acceptWeight(params string) float64 {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if q, err := strconv.ParseFloat(value, 64); strings.EqualFold(name, "q") && err == nil && q >= 0 {
			return min(q, 1)
		}
	}
	return 1
}

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
				if strings.EqualFold(media, want) && acceptWeight(params) > 0 {
					return true
				}
			}
		}
	}
	return false
}
