package main

import (
	"errors"
	"net/http"
	"time"

	"github.com/launchdarkly/eventsource"
)

func plainLaunchDarkly(url string, show func(id, event, data string)) error {
	stream, err := eventsource.SubscribeWithURL(url)
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

// docs: launchdarkly
func listenLaunchDarkly(url string, show func(id, event, data string)) error {
	ended := errors.New("closed")

	stream, err := eventsource.SubscribeWithURL(url,
		eventsource.StreamOptionCanRetryFirstConnection(-1),
		eventsource.StreamOptionReadTimeout(45*time.Second), // three heartbeats
		eventsource.StreamOptionErrorHandler(func(err error) (result eventsource.StreamErrorHandlerResult) {
			var rejected eventsource.SubscriptionError
			if errors.As(err, &rejected) && rejected.Code < http.StatusInternalServerError {
				ended, result.CloseNow = err, true // 204 or 4xx: it would retry forever
			}

			return result
		}))
	if err != nil {
		return err
	}

	for event := range stream.Events {
		if event.Event() != "peald.mark" {
			show(event.Id(), event.Event(), event.Data()) // on peald.reset, fetch the state again
		}
	}

	return ended
}

// docs: end
