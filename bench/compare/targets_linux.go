package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// limitName is the target that all others are compared with.
const limitName = "C limit"

// target is a server to measure.
type target struct {
	name    string
	version string // empty for peald, whose version is taken from git
	start   func(ctx context.Context) (*running, error)
	secure  func(ctx context.Context) (*running, error) // with TLS and HTTP/2; nil if the comparison doesn't need that
}

// running is a running target.
type running struct {
	*process

	streams   string // URL of the streams
	transport transport
	tls       *tls.Config // for an https URL
	publish   string      // URL to publish to
	body      func(data string) []byte
	unwrap    func(event []byte) []byte // see bench.Config; nil if events hold messages as they are
}

func verbatim(data string) []byte { return []byte(data) }

// buildTargets builds the targets into dir. It skips nchan if it isn't installed,
// and reports this to progress.
func buildTargets(ctx context.Context, o options, dir string, progress io.Writer) ([]target, error) {
	wanted := func(name string) bool {
		return o.only == "" || slices.Contains(strings.Split(o.only, ","), name)
	}

	fmt.Fprintln(progress, "building peald and the other servers")
	limit, err := buildLimit(ctx, dir)
	if err != nil {
		return nil, err
	}

	cert, err := newCertificate(dir)
	if err != nil {
		return nil, err
	}

	peald, err := buildPeald(ctx, o.root, dir, cert)
	if err != nil {
		return nil, err
	}

	small, err := buildServers(ctx, dir)
	if err != nil {
		return nil, err
	}

	all := []target{limit}
	for _, t := range slices.Concat([]target{peald}, small) {
		if wanted(t.name) {
			all = append(all, t)
		}
	}

	if wantsOthers(o) {
		all = append(all, buildOthers(ctx, dir, progress)...)
	}

	if !wanted(nchanName) {
		return all, nil
	}

	nchan, err := findNchan(ctx, dir, cert)
	if err != nil {
		fmt.Fprintf(progress, "skipping nchan: %v\n", err)
		return all, nil
	}

	return append(all, nchan), nil
}

func build(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // Compilers, for code of this repository.
	cmd.Env = append(os.Environ(), env...)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, output)
	}
	return nil
}

func buildLimit(ctx context.Context, dir string) (target, error) {
	path := filepath.Join(dir, "limit")
	if err := build(ctx, nil, "cc", "-O2", "-o", path, "limit/limit.c"); err != nil {
		return target{}, err
	}
	version, _, _ := strings.Cut(output(ctx, "cc", "--version"), "\n")
	return target{name: limitName, version: version, start: func(ctx context.Context) (*running, error) {
		return startOnPort(ctx, func(port string) (*process, error) { return startProcess(path, port) })
	}}, nil
}

func buildServers(ctx context.Context, dir string) ([]target, error) {
	path := filepath.Join(dir, "servers")
	if err := build(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-o", path, "./servers"); err != nil {
		return nil, err
	}

	one := func(name, kind, version string) target {
		return target{name: name, version: version, start: func(ctx context.Context) (*running, error) {
			return startOnPort(ctx, func(port string) (*process, error) { return startProcess(path, kind, "127.0.0.1:"+port) })
		}}
	}

	return []target{
		one("net/http", "plain", ""),
		one("r3labs/sse", "r3labs", moduleVersion(path, "github.com/r3labs/sse/v2")),
		one("go-sse", "go-sse", moduleVersion(path, "github.com/tmaxmax/go-sse")),
	}, nil
}

// startOnPort starts a server on a free port.
func startOnPort(ctx context.Context, start func(port string) (*process, error)) (*running, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}

	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}

	p, err := start(port)
	if err != nil {
		return nil, err
	}

	if err := p.await(ctx, func() error { return accepts(ctx, address) }); err != nil {
		p.stop()
		return nil, err
	}

	url := "http://" + address + "/"
	return &running{process: p, streams: url, publish: url, body: verbatim}, nil
}

func freeAddress(ctx context.Context) (string, error) {
	free, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return address, nil
}

func buildPeald(ctx context.Context, root, dir string, cert certificate) (target, error) {
	path := filepath.Join(dir, "peald")
	if err := build(ctx, []string{"CGO_ENABLED=0"}, "go", "-C", root, "build", "-trimpath", "-tags=grpcnotrace", "-ldflags=-s -w", "-o", path, "./cmd/peald"); err != nil {
		return target{}, err
	}

	ready := filepath.Join(dir, "ready.json")
	start := func(ctx context.Context) (*running, error) { return startPeald(ctx, path, ready) }
	secure := func(ctx context.Context) (*running, error) {
		r, err := startPeald(ctx, path, ready, "--sse.tls.cert_file="+cert.certFile, "--sse.tls.key_file="+cert.keyFile)
		if err != nil {
			return nil, err
		}
		r.streams, r.tls = strings.Replace(r.streams, "http:", "https:", 1), cert.client
		return r, nil
	}
	return target{name: pealdName, start: start, secure: secure}, nil
}

const pealdName = "peald"

func startPeald(ctx context.Context, path, ready string, args ...string) (*running, error) {
	if err := os.Remove(ready); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}

	p, err := startProcess(path, append(args, "--sse.addr=127.0.0.1:0", "--grpc.addr=127.0.0.1:0", "--rest.addr=127.0.0.1:0", "--ready-file="+ready)...)
	if err != nil {
		return nil, err
	}

	var addresses struct {
		SSE  string `json:"sse"`
		REST string `json:"rest"`
	}
	if err := p.await(ctx, func() error {
		text, err := os.ReadFile(filepath.Clean(ready))
		if err != nil {
			return err
		}

		return json.Unmarshal(text, &addresses)
	}); err != nil {
		p.stop()
		return nil, err
	}

	return &running{
		process: p,
		streams: "http://" + addresses.SSE + "/events",
		publish: "http://" + addresses.REST + "/v1/broadcast",
		body:    jsonBody,
	}, nil
}

func jsonBody(data string) []byte {
	text, _ := json.Marshal(map[string]string{"data": data}) //nolint:errchkjson // Strings can always be encoded.
	return text
}

// output returns the output of a command, or "" if it fails.
func output(ctx context.Context, name string, args ...string) string {
	text, err := exec.CommandContext(ctx, name, args...).CombinedOutput() //nolint:gosec // Commands that print versions.
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(text))
}
