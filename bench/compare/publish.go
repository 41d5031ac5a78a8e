//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// publisher publishes to any target with consecutive POSTs on one connection.
type publisher struct {
	client *http.Client
	url    string
	body   func(data string) []byte
}

func newPublisher(r *running) publisher {
	return publisher{client: &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}, url: r.publish, body: r.body}
}

// Publish implements [bench.Publisher].
func (p publisher) Publish(ctx context.Context, _, data string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(p.body(data)))
	if err != nil {
		return err
	}

	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()

	const maxBody = 1 << 10
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return err
	}

	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", response.Status, body)
	}

	return nil
}

// Token implements [bench.Publisher].
func (publisher) Token(context.Context, string) (string, error) {
	return "", errors.New("streams have no user")
}

func (p publisher) close() { p.client.CloseIdleConnections() }
