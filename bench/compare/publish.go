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

// publisher publishes by one POST after the other on one connection, to every
// target alike.
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
	const most = 1 << 10
	said, err := io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", response.Status, said)
	}
	return nil
}

// Token implements [bench.Publisher].
func (publisher) Token(context.Context, string) (string, error) {
	return "", errors.New("the streams belong to nobody")
}

func (p publisher) close() { p.client.CloseIdleConnections() }
