package auth

import (
	"iter"
	"net/http"
	"strings"
)

// Cookies returns the names and values of the cookies in a request's header, in order.
//
// [http.Request.Cookies] leaves out cookies with characters that RFC 6265 §4.1.1
// forbids. A user whose cookie is left out would seem to be anonymous. Browsers send
// such cookies (§5.4), so Cookies returns them unchanged.
func Cookies(header http.Header) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for _, line := range header["Cookie"] {
			for part := range strings.SplitSeq(line, ";") {
				name, value, _ := strings.Cut(strings.Trim(part, " \t"), "=")
				name = strings.Trim(name, " \t")
				if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
					value = value[1 : len(value)-1]
				}
				if name+value != "" && !yield(name, value) {
					return
				}
			}
		}
	}
}
