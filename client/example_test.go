package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/peald/peald/client"
)

// daemonWith returns a server in place of a daemon. It sends a stream, and ends it for
// clients that have received all of it.
func daemonWith(stream string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/private":
			http.Error(w, "this stream may not subscribe to topic \"private\"", http.StatusForbidden)
		case r.Header.Get("Last-Event-ID") == "k3f9-3":
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, stream)
		}
	}))
}

func Example() {
	daemon := daemonWith("retry: 10\nevent: peald.mark\nid: k3f9-1\ndata:\n\n" +
		"id: k3f9-2\nevent: topic\ndata: 1.0842\n\nid: k3f9-3\nevent: topic\ndata: 1.0851\n\n")
	defer daemon.Close()

	prices, err := client.Subscribe(context.Background(), daemon.URL+"/events", client.WithTopics("prices.eur"))
	if err != nil {
		fmt.Println(err)
		return
	}
	for event, err := range prices.Events() {
		switch {
		case err != nil:
			fmt.Println(err)
		case event.Reset != nil:
			fmt.Println("load the price again")
		default:
			fmt.Println("price:", event.Data)
		}
	}
	// Output:
	// price: 1.0842
	// price: 1.0851
}

func ExampleWithPosition() {
	daemon := daemonWith("id: k3f9-2\ndata: paid\n\nid: k3f9-3\ndata: shipped\n\n")
	defer daemon.Close()

	orders, err := client.Subscribe(context.Background(), daemon.URL+"/events",
		client.WithPosition("k3f9-1"), // from the last run of the program
		client.WithSinceAll())         // if there is no position
	if err != nil {
		fmt.Println(err)
		return
	}
	for event, err := range orders.Events() {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(event.Data, "store", orders.Position())
	}
	// Output:
	// paid store k3f9-2
	// shipped store k3f9-3
}

func ExampleWithToken() {
	daemon := daemonWith("id: k3f9-3\ndata: Hello, alice\n\n")
	defer daemon.Close()

	fetchToken := func(context.Context) (string, error) {
		// Ask your backend, which knows the user. It is called again when a token has
		// expired.
		token := os.Getenv("PEALCTL_USER_TOKEN")
		return token, nil
	}

	messages, err := client.Subscribe(context.Background(), daemon.URL+"/events", client.WithToken(fetchToken))
	if err != nil {
		fmt.Println(err)
		return
	}
	for event, err := range messages.Events() {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(event.Data)
	}
	// Output: Hello, alice
}

func ExampleStatusError() {
	daemon := daemonWith("")
	defer daemon.Close()

	private, err := client.Subscribe(context.Background(), daemon.URL+"/private")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, err := range private.Events() {
		if status, ok := errors.AsType[*client.StatusError](err); ok {
			fmt.Println(status.StatusCode, status.Reason)
		}
	}
	// Output: 403 this stream may not subscribe to topic "private"
}

// A program can stop at any event, and continue later without missing any.
func ExampleSubscription_Events() {
	daemon := daemonWith("id: k3f9-1\ndata: one\n\n")
	defer daemon.Close()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	events, err := client.Subscribe(ctx, daemon.URL+"/events")
	if err != nil {
		fmt.Println(err)
		return
	}
	for event, err := range events.Events() {
		fmt.Println(event.Data, err)
		break // closes the connection
	}

	cancel()
	for _, err := range events.Events() {
		fmt.Println(err)
	}
	// Output:
	// one <nil>
	// context canceled
}
