package load_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/peald/peald/internal/eventstream"
)

// visit is the life of one client.
func (c *crowd) visit(ctx context.Context) {
	conn, err := (&net.Dialer{Timeout: time.Minute}).DialContext(context.WithoutCancel(ctx), "tcp", c.daemon.SSE)
	if err != nil {
		c.faultf("connect: %v", err)

		return
	}

	// Of the ways to leave, to vanish without a word is the rudest.
	tcp, _ := conn.(*net.TCPConn)
	defer func() {
		if rand.IntN(3) == 0 {
			_ = tcp.SetLinger(0)
		}

		_ = tcp.Close()
	}()

	v := &visitor{crowd: c, conn: tcp, user: rand.IntN(2*crowdUsers) - crowdUsers}

	if rand.IntN(10) == 0 {
		v.neverRead(ctx)

		return
	}

	// Whatever the client waits for, it leaves when it is time.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(rand.ExpFloat64()*float64(time.Second)))
	defer cancel()

	switch rand.IntN(9) {
	case 0: // leaves before there is an answer, or before it has asked
		if rand.IntN(2) == 0 {
			v.ask("")
		}
	case 1:
		v.stopSending(ctx)
	case 2:
		v.askWithBadToken(ctx)
	case 3:
		v.talk(ctx)
	default:
		v.read(ctx)
	}
}

// visitor is a client with a connection.
type visitor struct {
	crowd *crowd
	conn  *net.TCPConn
	user  int // negative for nobody

	lastID   int64
	next     [crowdPublishers]int // the number of their next broadcast; 0 before the first
	mayMiss  bool                 // a reset has told that events are missing
	response *http.Response
	stay     func() bool // has ctx's end not end what the client reads
}

func (v *visitor) ask(token string) {
	request := "GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
	if token != "" {
		request += "Authorization: Bearer " + token + "\r\n"
	}

	_, _ = io.WriteString(v.conn, request+"\r\n")
}

// open opens a stream, and says whether there is one.
func (v *visitor) open(ctx context.Context) bool {
	token := ""
	if v.user >= 0 {
		token = v.crowd.tokens[v.user]
	}

	v.ask(token)

	return v.answered(ctx, http.StatusOK)
}

// answered reads the head of the response.
func (v *visitor) answered(ctx context.Context, want int) bool {
	v.stay = context.AfterFunc(ctx, func() { _ = v.conn.SetReadDeadline(time.Now()) })

	response, err := http.ReadResponse(bufio.NewReader(v.conn), nil)
	if err != nil {
		if ctx.Err() == nil {
			v.crowd.faultf("no answer: %v", err)
		}

		return false
	}

	if response.StatusCode != want {
		v.crowd.faultf("the answer is %s, want %d", response.Status, want)

		return false
	}

	v.response = response
	v.crowd.opened.Add(1)

	return true
}

// read reads events until it is time to go.
func (v *visitor) read(ctx context.Context) {
	if v.open(ctx) {
		v.readOn(ctx)
	}
}

func (v *visitor) readOn(ctx context.Context) {
	decoder := &eventstream.Decoder{OnEvent: v.check}
	_, _ = io.Copy(decoder, v.response.Body)

	if ctx.Err() == nil {
		// It may do so: on a busy machine whoever reads may be slow, too.
		v.crowd.endedByServer.Add(1)
	}
}

// talk sends what nobody asked for, now and then.
func (v *visitor) talk(ctx context.Context) {
	if !v.open(ctx) {
		return
	}

	var talking sync.WaitGroup
	defer talking.Wait()

	talking.Go(func() {
		for pause(ctx, rand.N(100*time.Millisecond)) {
			if _, err := v.conn.Write(make([]byte, rand.IntN(2000))); err != nil {
				return
			}
		}
	})
	v.readOn(ctx)
}

// neverRead fills the kernel's buffers, then the daemon's queue.
func (v *visitor) neverRead(ctx context.Context) {
	_ = v.conn.SetReadBuffer(4 << 10)

	v.ask("")
	// To be slow takes time.
	pause(ctx, rand.N(4*time.Second))
}

// stopSending closes its half of the connection: for a server of event streams
// it has gone, and the daemon has to close the other half.
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

	if _, err := io.Copy(io.Discard, v.conn); errors.Is(err, os.ErrDeadlineExceeded) {
		v.crowd.faultf("the daemon keeps a stream whose client has closed its half")
	}
}

func (v *visitor) askWithBadToken(ctx context.Context) {
	v.ask("none")

	if v.answered(ctx, http.StatusUnauthorized) {
		v.crowd.opened.Add(-1)
		v.crowd.refused.Add(1)
	}
}

// check judges an event.
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
		v.crowd.faultf("an event has the id %q after one of sequence %d", e.ID, v.lastID)
	}

	v.lastID = id

	fields := strings.SplitN(string(e.Data), " ", 4)
	if len(fields) != 4 || strings.Trim(fields[3], "x") != "" {
		v.crowd.faultf("an event's data is damaged: %.40q", e.Data)

		return
	}

	v.checkAddress(fields[0], fields[1], fields[2])
}

// checkAddress judges whom an event is for, and which broadcast it is.
func (v *visitor) checkAddress(to, publisherText, numberText string) {
	publisher, _ := strconv.Atoi(publisherText)
	number, _ := strconv.Atoi(numberText)

	if to != "everybody" {
		if v.user < 0 || to != userID(v.user) {
			v.crowd.faultf("user %d got an event for %s", v.user, to)
		}

		return
	}

	if next := v.next[publisher]; next != 0 && number != next && (!v.mayMiss || number < next) {
		v.crowd.faultf("after broadcast %d of publisher %d came %d", next-1, publisher, number)
	}

	v.next[publisher] = number + 1
}
