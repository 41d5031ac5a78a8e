package client_test

import (
	"context"
	"errors"
	"testing"

	"github.com/peald/peald/client"
)

// listen is the code in docs/clients.md.
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

func TestListen(t *testing.T) {
	daemon := daemonWith("id: k3f9-3\nevent: peald.reset\ndata: {\"reason\":\"expired\",\"last_event_id\":\"k3f9-1\"}\n\ndata: x\n\n")
	defer daemon.Close()
	shown, reloads := 0, 0
	for range 2 {
		err := listen(t.Context(), daemon.URL+"/events", func(context.Context) (string, error) { return "t", nil }, func(client.Event) { shown++ }, func() { reloads++ })
		if err != nil {
			t.Fatal(err)
		}
	}
	if shown != 2 || reloads != 2 {
		t.Errorf("%d events and %d resets, want 2", shown, reloads)
	}
	err := listen(t.Context(), daemon.URL+"/private", func(context.Context) (string, error) { return "t", nil }, nil, nil)
	if _, ok := errors.AsType[*client.StatusError](err); !ok {
		t.Errorf("error %v, want a status", err)
	}
}
