// Command clients holds streams with a client library for Go:
//
//	clients LIBRARY NAME=URL...
//
// It opens each URL with plain use of the library or, if NAME ends in "+", with the
// code in docs/clients.md. It prints a line of JSON for each event and for the end
// of each stream.
package main

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
)

// client holds a stream at url until it gives up, and returns the reason.
type client func(url string, show func(id, event, data string)) error

type line struct {
	Stream string `json:"stream"`
	Type   string `json:"type,omitempty"`
	ID     string `json:"id,omitempty"`
	Bytes  int    `json:"bytes,omitempty"`
	MD5    string `json:"md5,omitempty"`
	Ended  string `json:"ended,omitempty"`
}

func main() {
	libraries := map[string]struct{ plain, recommended client }{
		"tmaxmax":      {plainTmaxmax, listenTmaxmax},
		"launchdarkly": {plainLaunchDarkly, listenLaunchDarkly},
		"donovanhide":  {plainDonovanhide, listenDonovanhide},
		"r3labs":       {plainR3labs, listenR3labs},
	}

	library, ok := libraries[os.Args[1]]
	if !ok {
		fmt.Fprintf(os.Stderr, "unknown library %q\n", os.Args[1])
		os.Exit(2)
	}

	var printing sync.Mutex

	print := func(l line) {
		printing.Lock()
		defer printing.Unlock()

		_ = json.NewEncoder(os.Stdout).Encode(l)
	}

	for _, argument := range os.Args[2:] {
		stream, url, _ := strings.Cut(argument, "=")

		hold := library.plain
		if strings.HasSuffix(stream, "+") {
			hold = library.recommended
		}

		go func() {
			err := hold(url, func(id, event, data string) {
				sum := md5.Sum([]byte(data))
				print(line{Stream: stream, Type: event, ID: id, Bytes: len(data), MD5: hex.EncodeToString(sum[:])})
			})
			print(line{Stream: stream, Ended: fmt.Sprint(err)})
		}()
	}

	select {}
}
