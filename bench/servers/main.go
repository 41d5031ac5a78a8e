// Command servers runs one of the servers that peald is compared with. Each is a
// small program around net/http or a library, written as the library's
// documentation shows. GET / opens a stream, and POST / broadcasts its body as
// one event.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// server is a server to compare.
type server interface {
	// ServeHTTP serves a stream.
	ServeHTTP(w http.ResponseWriter, r *http.Request)
	publish(data []byte) error
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: servers plain|r3labs|go-sse ADDRESS")
	}

	var s server
	switch args[0] {
	case "plain":
		s = newPlain()
	case "r3labs":
		s = newR3labs()
	case "go-sse":
		s = newGoSSE()
	default:
		return fmt.Errorf("unknown server %q; want plain, r3labs or go-sse", args[0])
	}

	return listenAndServe(ctx, args[1], s)
}

func listenAndServe(ctx context.Context, address string, s server) error {
	mux := http.NewServeMux()
	mux.Handle("GET /", s)
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err == nil {
			err = s.publish(data)
		}

		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}

	httpServer := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = httpServer.Close() })
	defer stop()
	if err := httpServer.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}

	return nil
}
