// Command peald holds streams with the package github.com/peald/peald/client:
//
//	peald NAME=URL...
//
// It prints a line of JSON for each event and for the end of each stream.
package main

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/peald/peald/client"
)

type line struct {
	Stream string `json:"stream"`
	Type   string `json:"type,omitempty"`
	ID     string `json:"id,omitempty"`
	Bytes  int    `json:"bytes,omitempty"`
	MD5    string `json:"md5,omitempty"`
	Ended  string `json:"ended,omitempty"`
}

// docs: listen
func listen(ctx context.Context, url string, fetchToken func(context.Context) (string, error), show func(client.Event), reload func()) error {
	stream, err := client.Subscribe(ctx, url, client.WithTopics("orders.*"), client.WithToken(fetchToken))
	if err != nil {
		return err // the URL or an option is invalid
	}

	for event, err := range stream.Events() {
		switch {
		case err != nil:
			return err // the server rejects the stream for good, or ctx is done
		case event.Reset != nil:
			reload() // events are missing
		default:
			show(event)
		}
	}

	return nil // the topic has ended
}

// docs: end

func main() {
	var printing sync.Mutex

	print := func(l line) {
		printing.Lock()
		defer printing.Unlock()

		_ = json.NewEncoder(os.Stdout).Encode(l)
	}

	// The test's daemons admit users by the URL.
	noToken := func(context.Context) (string, error) { return "", nil }

	for _, argument := range os.Args[1:] {
		name, url, _ := strings.Cut(argument, "=")

		go func() {
			show := func(event client.Event) {
				sum := md5.Sum([]byte(event.Data))
				print(line{Stream: name, Type: event.Type, ID: event.ID, Bytes: len(event.Data), MD5: hex.EncodeToString(sum[:])})
			}
			reload := func() { print(line{Stream: name, Type: "peald.reset"}) }

			err := listen(context.Background(), url, noToken, show, reload)
			print(line{Stream: name, Ended: fmt.Sprint(err)})
		}()
	}

	select {}
}
