package load_test

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/peald/peald/internal/eventstream"
)

// visit runs one client of a random kind.
func (c *crowd) visit(ctx context.Context) {
	conn, err := (&net.Dialer{Timeout: time.Minute}).DialContext(context.WithoutCancel(ctx), "tcp", c.daemon.SSE)
	if err != nil {
		c.faultf("connect: %v", err)

		return
	}

	// A third of the clients reset the connection instead of closing it.
	tcp, _ := conn.(*net.TCPConn)
	defer func() {
		if rand.IntN(3) == 0 {
			_ = tcp.SetLinger(0)
		}

		_ = tcp.Close()
	}()

	v := &visitor{crowd: c, conn: tcp, user: rand.IntN(2*crowdUsers) - crowdUsers}

	if !v.secure(ctx) {
		return
	}

	if rand.IntN(10) == 0 {
		v.neverRead(ctx)

		return
	}

	// The client disconnects after a random time, whatever it is waiting for.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(rand.ExpFloat64()*float64(time.Second)))
	defer cancel()

	switch rand.IntN(9) {
	case 0: // disconnects before the response, or even before the request
		if rand.IntN(2) == 0 {
			v.request("")
		}
	case 1:
		v.stopSending(ctx)
	case 2:
		v.requestWithBadToken(ctx)
	case 3:
		v.send(ctx)
	default:
		v.read(ctx)
	}
}

// visitor is a client and its connection.
type visitor struct {
	crowd *crowd
	conn  *net.TCPConn
	top   net.Conn                            // conn, or TLS on it
	http2 *http2.ClientConn                   //nolint:staticcheck // net/http's can't use an open connection. Nil for HTTP/1.1.
	user  int                                 // negative for an anonymous stream
	reply chan func() (*http.Response, error) // of a request over HTTP/2

	lastID   int64
	next     [crowdPublishers]int // the number of each publisher's next broadcast; 0 before the first
	mayMiss  bool                 // a reset has announced a gap
	headers  string               // of the request, besides those that all clients send
	response *http.Response
	stay     func() bool // stops the end of ctx from interrupting reads
}

func (v *visitor) request(token string) {
	request := "GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n" + v.headers
	if token != "" {
		request += "Authorization: Bearer " + token + "\r\n"
	}

	if v.http2 != nil {
		v.requestHTTP2(token)

		return
	}

	_, _ = io.WriteString(v.top, request+"\r\n")
}

// open opens a stream and reports whether it succeeded.
func (v *visitor) open(ctx context.Context) bool {
	token := ""
	if v.user >= 0 {
		token = v.crowd.tokens[v.user]
	}

	if rand.IntN(2) == 0 {
		v.headers = "Accept-Encoding: gzip\r\n"
	}

	v.request(token)

	return v.readResponse(ctx, http.StatusOK)
}

// readResponse reads the response header and reports whether the status is want.
func (v *visitor) readResponse(ctx context.Context, want int) bool {
	v.stay = context.AfterFunc(ctx, v.interrupt)

	response, err := v.receive()
	if err != nil {
		if ctx.Err() == nil {
			v.crowd.faultf("no response: %v", err)
		}

		return false
	}

	if response.StatusCode != want {
		v.crowd.faultf("status %s, want %d", response.Status, want)

		return false
	}

	v.response = response
	v.crowd.opened.Add(1)

	return true
}

// read reads events until ctx is done.
func (v *visitor) read(ctx context.Context) {
	if v.open(ctx) {
		v.readOn(ctx)
	}
}

func (v *visitor) readOn(ctx context.Context) {
	decoder := &eventstream.Decoder{OnEvent: v.check}
	err := v.copyBody(decoder)

	if _, damaged := errors.AsType[flate.CorruptInputError](err); damaged || errors.Is(err, gzip.ErrChecksum) {
		v.crowd.faultf("damaged body: %v", err)
	}

	if ctx.Err() == nil {
		// Not a fault: on a busy machine, a reading client may be slow too.
		v.crowd.closedByServer.Add(1)
	}
}

// copyBody copies the body to w without its content coding.
func (v *visitor) copyBody(w io.Writer) error {
	body := v.response.Body
	if v.response.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(body); err != nil {
			return fmt.Errorf("read gzip header: %w", err)
		}
	}

	_, err := io.Copy(w, body)

	return err
}

// send reads events and occasionally sends unexpected data.
func (v *visitor) send(ctx context.Context) {
	if !v.open(ctx) {
		return
	}

	var sending sync.WaitGroup
	defer sending.Wait()

	sending.Go(func() {
		for pause(ctx, rand.N(100*time.Millisecond)) {
			if _, err := v.top.Write(make([]byte, rand.IntN(2000))); err != nil {
				return
			}
		}
	})

	v.readOn(ctx)
}

// neverRead fills the kernel's buffers, then the daemon's queue.
func (v *visitor) neverRead(ctx context.Context) {
	_ = v.conn.SetReadBuffer(4 << 10)

	v.request("")
	// Stay long enough to become a slow consumer.
	pause(ctx, rand.N(4*time.Second))
}

// stopSending closes its half of the connection. The daemon treats that as a
// disconnect and must close the other half.
func (v *visitor) stopSending(ctx context.Context) {
	if !v.open(ctx) {
		return
	}

	if !v.stay() {
		return
	}

	_ = v.conn.CloseWrite()

	const patience = 90 * time.Second

	_ = v.conn.SetReadDeadline(time.Now().Add(patience))

	rest := io.Reader(v.top)
	if v.http2 != nil {
		rest = v.response.Body // The transport reads the connection.
	}

	if _, err := io.Copy(io.Discard, rest); errors.Is(err, os.ErrDeadlineExceeded) {
		v.crowd.faultf("the daemon keeps a stream whose client has closed its half of the connection")
	}
}

func (v *visitor) requestWithBadToken(ctx context.Context) {
	v.request("none")

	if v.readResponse(ctx, http.StatusUnauthorized) {
		v.crowd.opened.Add(-1)
		v.crowd.rejected.Add(1)
	}
}

// check checks an event's ID, data and audience.
func (v *visitor) check(e eventstream.Event) {
	if string(e.Type) == eventstream.MarkType {
		return
	}

	v.crowd.events.Add(1)

	if string(e.Type) == "peald.reset" {
		v.crowd.resets.Add(1)
		v.mayMiss = true

		return
	}

	_, sequence, _ := strings.Cut(string(e.ID), "-")

	id, err := strconv.ParseInt(sequence, 10, 64)
	if err != nil || id <= v.lastID {
		v.crowd.faultf("an event has ID %q after sequence number %d", e.ID, v.lastID)
	}

	v.lastID = id

	fields := strings.SplitN(string(e.Data), " ", 4)
	if len(fields) != 4 || strings.Trim(fields[3], "x") != "" {
		v.crowd.faultf("an event's data is corrupt: %.40q", e.Data)

		return
	}

	v.checkAddress(fields[0], fields[1], fields[2])
}

// checkAddress checks an event's audience and the number of a broadcast.
func (v *visitor) checkAddress(to, publisherText, numberText string) {
	publisher, _ := strconv.Atoi(publisherText)
	number, _ := strconv.Atoi(numberText)

	if to != "everyone" {
		if v.user < 0 || to != userID(v.user) {
			v.crowd.faultf("user %d received an event for %s", v.user, to)
		}

		return
	}

	if next := v.next[publisher]; next != 0 && number != next && (!v.mayMiss || number < next) {
		v.crowd.faultf("after broadcast %d of publisher %d received %d", next-1, publisher, number)
	}

	v.next[publisher] = number + 1
}
