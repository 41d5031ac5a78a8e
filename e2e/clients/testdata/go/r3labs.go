package main

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/r3labs/sse/v2"
	"gopkg.in/cenkalti/backoff.v1"
)

func plainR3labs(url string, show func(id, event, data string)) error {
	err := sse.NewClient(url).SubscribeRaw(func(event *sse.Event) {
		if name := string(event.Event); name != "peald.mark" {
			show(string(event.ID), name, string(event.Data))
		}
	})

	return fmt.Errorf("returned %w", err)
}

// docs: r3labs
func listenR3labs(url string, show func(id, event, data string)) error {
	retry := 3 * time.Second
	client := sse.NewClient(url, sse.ClientMaxBufferSize(4<<20)) // the default is 64 KiB
	client.ReconnectStrategy = &backoff.StopBackOff{}            // the loop below reconnects
	client.ResponseValidator = func(_ *sse.Client, response *http.Response) error {
		if response.StatusCode == http.StatusOK {
			return nil
		}

		response.Body.Close()

		return status(response.StatusCode)
	}

	for ; ; time.Sleep(retry) {
		err := client.SubscribeRaw(func(event *sse.Event) {
			if milliseconds, err := time.ParseDuration(string(event.Retry) + "ms"); err == nil {
				retry = milliseconds
			}

			if name := string(event.Event); name != "peald.mark" && name != "" { // "": a block without data
				show(string(event.ID), name, string(event.Data)) // on peald.reset, fetch the state again
			}
		})

		var rejected status
		if errors.As(err, &rejected) && rejected < http.StatusInternalServerError {
			return err // 204 or 4xx
		}
	}
}

type status int

func (s status) Error() string { return fmt.Sprintf("status %d", int(s)) }

// docs: end
