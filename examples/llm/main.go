// Command llm shows answers word by word, as a language model generates them. Its page
// misses no word if it is reloaded, opened in a second tab, or loses its connection.
// The model is made up.
//
//	PEALCTL_ADDR   the daemon's grpc.addr (127.0.0.1:9090)
//	PEALCTL_TOKEN  a token from control.tokens, if the daemon has any
//
// Usage: go run ./examples/llm [-addr ADDR] [-events URL]
package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

//go:embed index.html
var page string

// retries lets calls survive a restart of the daemon, and control.rate_limit. It is safe
// because words have idempotency keys.
const retries = `{"methodConfig": [{"name": [{}], "retryPolicy": {
	"maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
	"retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]}}]}`

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "`address` of the page")
	events := flag.String("events", "http://127.0.0.1:8080/events", "`URL` of peald's streams, for browsers")

	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second Ctrl-C kills the program

	if err := run(ctx, *addr, *events, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves the page until ctx is canceled, and then ends the unfinished answers.
func run(ctx context.Context, addr, events string, stdout io.Writer) error {
	if token := os.Getenv("PEALCTL_TOKEN"); token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}

	conn, err := grpc.NewClient(cmp.Or(os.Getenv("PEALCTL_ADDR"), "127.0.0.1:9090"),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(retries))
	if err != nil {
		return fmt.Errorf("PEALCTL_ADDR: %w", err)
	}
	defer conn.Close()

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}

	b := &backend{model: parrot, peald: pealv1.NewControlServiceClient(conn)}
	defer b.running.Wait()

	server := &http.Server{Handler: newHandler(ctx, b, events), ReadHeaderTimeout: 10 * time.Second}

	ctx, cancel := context.WithCancel(ctx)

	var shutdown sync.WaitGroup
	defer shutdown.Wait()
	defer cancel()

	shutdown.Go(func() {
		<-ctx.Done()

		_ = server.Shutdown(context.WithoutCancel(ctx))
	})

	fmt.Fprintf(stdout, "Open http://%s/\n", listener.Addr())

	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// newHandler serves the page, which opens its stream at the URL events. Canceling ctx
// ends the answers that have been started.
func newHandler(ctx context.Context, b *backend, events string) http.Handler {
	index := template.Must(template.New("index.html").Parse(page))
	mux := http.NewServeMux()

	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _ = index.Execute(w, events) })
	mux.HandleFunc("POST /ask", func(w http.ResponseWriter, r *http.Request) { b.ask(ctx, w, r) })
	return http.NewCrossOriginProtection().Handler(mux) // only this page may ask
}
