package main

import (
	"errors"
	"net/http"

	"github.com/donovanhide/eventsource"
)

func plainDonovanhide(url string, show func(id, event, data string)) error {
	stream, err := eventsource.Subscribe(url, "")
	if err != nil {
		return err
	}

	go func() {
		for range stream.Errors {
		}
	}()

	for event := range stream.Events {
		if event.Event() != "peald.mark" {
			show(event.Id(), event.Event(), event.Data())
		}
	}

	return errors.New("closed")
}

// docs: donovanhide
func listenDonovanhide(url string, show func(id, event, data string)) error {
	stream, err := eventsource.Subscribe(url, "")
	if err != nil {
		return err
	}

	for {
		select {
		case event := <-stream.Events:
			if name := event.Event(); name != "peald.mark" && name != "" { // "": a block without data
				show(event.Id(), name, event.Data()) // on peald.reset, fetch the state again
			}
		case err := <-stream.Errors: // must be read, otherwise the library blocks
			var rejected eventsource.SubscriptionError
			if errors.As(err, &rejected) && rejected.Code < http.StatusInternalServerError {
				stream.Close() // 204 or 4xx: it would retry forever

				return err
			}
		}
	}
}

// docs: end
