package bench

import (
	"context"
	"net"
	"net/http"
	"time"
)

// poll sends the polls of a client, one after another, until ctx is done or one fails.
// It calls opened after the first one.
func (c *portableConn) poll(ctx context.Context, s portableStream, opened func()) error {
	var conn *http.ClientConn
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()

	start, position := time.Now(), ""
	for {
		if conn == nil {
			var err error
			if conn, err = c.transport.NewClientConn(ctx, c.address.Scheme, net.JoinHostPort(c.address.Hostname(), c.address.Port())); err != nil {
				return err
			}
		}

		request := &http.Request{Method: http.MethodGet, URL: pollURL(c.address, position), Header: s.header}
		response, err := conn.RoundTrip(request.WithContext(ctx))
		if err != nil {
			return err
		}
		b, err := readBatch(response)
		_ = response.Body.Close()
		if err != nil {
			return err
		}

		if position == "" {
			c.pool.tally.streamOpened(time.Since(start))
			opened()
		}
		position = b.position
		c.pool.tally.decode(s.stream, b.blocks)

		if response.Close || conn.Err() != nil {
			_ = conn.Close()
			conn = nil
		}
	}
}
