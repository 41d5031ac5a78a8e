package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
)

const (
	centrifugoName    = "Centrifugo"
	centrifugoModule  = "github.com/centrifugal/centrifugo/v6"
	centrifugoVersion = "v6.9.1"
)

// buildOthers builds servers from the Go module proxy, which takes minutes. It
// skips servers that can't be built, and reports this to progress.
func buildOthers(ctx context.Context, dir string, progress io.Writer) []target {
	// Mercure's command is a module whose go.mod replaces the library with a
	// directory, which "go install" rejects.
	fmt.Fprintln(progress, "skipping Mercure: it can't be built from the Go module proxy, because the go.mod of its command has a replace directive")

	fmt.Fprintf(progress, "building %s@%s\n", centrifugoModule, centrifugoVersion)
	if err := build(ctx, []string{"GOBIN=" + dir}, "go", "install", centrifugoModule+"@"+centrifugoVersion); err != nil {
		fmt.Fprintf(progress, "skipping Centrifugo: %v\n", err)
		return nil
	}

	path := filepath.Join(dir, "centrifugo")
	return []target{{name: centrifugoName, version: centrifugoVersion, start: func(ctx context.Context) (*running, error) {
		return startCentrifugo(ctx, path)
	}}}
}

// startCentrifugo starts Centrifugo with its transport for plain EventSource
// clients. Their requests name the channel to subscribe to.
func startCentrifugo(ctx context.Context, path string) (*running, error) {
	internal, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	_, internalPort, err := net.SplitHostPort(internal)
	if err != nil {
		return nil, err
	}

	r, err := startOnPort(ctx, func(port string) (*process, error) {
		return startProcess(path, "--http_server.address=127.0.0.1", "--http_server.port="+port,
			"--http_server.internal_address=127.0.0.1", "--http_server.internal_port="+internalPort,
			"--uni_sse.enabled", "--client.insecure", "--http_api.insecure", "--log.level=error")
	})
	if err != nil {
		return nil, err
	}

	if err := r.await(ctx, func() error { return accepts(ctx, internal) }); err != nil {
		r.stop()
		return nil, err
	}

	r.streams += `connection/uni_sse?cf_connect={"subs":{"messages":{}}}`
	r.publish, r.body, r.unwrap = "http://"+internal+"/api/publish", centrifugoBody, centrifugoData
	return r, nil
}

func centrifugoBody(data string) []byte {
	text, _ := json.Marshal(map[string]string{"channel": "messages", "data": data}) //nolint:errchkjson // Strings can always be encoded.
	return text
}

// centrifugoData returns the message in a Centrifugo event: the string "data" of
// a JSON object. Messages have no characters that JSON escapes.
func centrifugoData(event []byte) []byte {
	_, rest, _ := bytes.Cut(event, []byte(`"data":"`))
	data, _, _ := bytes.Cut(rest, []byte(`"`))
	return data
}

// wantsOthers reports whether the servers that buildOthers builds were requested.
func wantsOthers(o options) bool { return o.others || strings.Contains(o.only, centrifugoName) }
