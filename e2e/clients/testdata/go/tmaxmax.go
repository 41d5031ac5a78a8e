package main

import (
	"fmt"
	"net/http"

	"github.com/tmaxmax/go-sse"
)

func plainTmaxmax(url string, show func(id, event, data string)) error {
	request, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}

	stream := sse.NewConnection(request)
	stream.SubscribeToAll(func(event sse.Event) {
		if event.Type != "peald.mark" {
			show(event.LastEventID, event.Type, event.Data)
		}
	})

	return stream.Connect()
}

// docs: tmaxmax
func listenTmaxmax(url string, show func(id, event, data string)) error {
	request, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}

	client := sse.Client{ResponseValidator: func(response *http.Response) error {
		if response.StatusCode >= http.StatusInternalServerError {
			return temporary{fmt.Errorf("status %d", response.StatusCode)} // from a proxy: retry
		}

		return sse.DefaultValidator(response) // 204 and 4xx: give up
	}}
	stream := client.NewConnection(request)
	stream.Buffer(nil, 4<<20) // events can have 1 MiB of data; the default is 64 KiB
	stream.SubscribeToAll(func(event sse.Event) {
		if event.Type != "peald.mark" {
			show(event.LastEventID, event.Type, event.Data) // on peald.reset, fetch the state again
		}
	})

	return stream.Connect()
}

type temporary struct{ error }

func (temporary) Temporary() bool { return true }

// docs: end
