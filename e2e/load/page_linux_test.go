package load_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/internal/eventstream"
)

// page is a page whose stream continues where its state ends. Messages of a topic are
// numbered from 0.
type page struct {
	topic    int
	position string
	state    int // the number of messages when the page was rendered

	mu   sync.Mutex
	conn net.Conn // nil before the page is opened
	left bool

	first, next              int // the number of the first message, and the one after the last; -1 before
	events, gaps, duplicates int
	reset                    string
}

// String describes the page in faults.
func (p *page) String() string {
	return fmt.Sprintf("the page for topic %d with the position %s and the state %d", p.topic, p.position, p.state)
}

// leave closes the page's stream, or keeps it from being opened.
func (p *page) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.left = true
	if p.conn != nil {
		_ = p.conn.Close()
	}
}

func (p *page) hasLeft() bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.left
}

// read opens the page's stream and reads it, for the given time at most.
func (p *page) read(ctx context.Context, addr string, stay time.Duration) error {
	const patience = time.Minute

	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()

	p.mu.Lock()
	p.conn = conn
	p.mu.Unlock()

	if p.hasLeft() {
		return nil
	}

	// A quarter of the pages subscribe to a pattern.
	topic := topicName(p.topic)
	if rand.IntN(4) == 0 {
		topic = fmt.Sprintf("room.%d.*", p.topic)
	}

	_ = conn.SetReadDeadline(time.Now().Add(patience))

	if _, err := fmt.Fprintf(conn, "GET /events?topic=%s&last_event_id=%s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n",
		topic, p.position, addr); err != nil {
		return p.unlessLeft(err)
	}

	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<10), nil)
	if err != nil {
		return p.unlessLeft(err)
	}
	defer response.Body.Close()

	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}

	_ = conn.SetReadDeadline(time.Time{})

	leaving := time.AfterFunc(stay, p.leave)
	defer leaving.Stop()

	// Only the last read may fail, because the page has left.
	_, err = io.CopyBuffer(struct{ io.Writer }{&eventstream.Decoder{OnEvent: p.receive}}, response.Body, make([]byte, 1<<10))
	if err == nil {
		err = errors.New("the stream was closed")
	}

	return p.unlessLeft(err)
}

// unlessLeft returns err, or nil if the page has left.
func (p *page) unlessLeft(err error) error {
	if p.hasLeft() {
		return nil
	}

	return err
}

// receive checks the number of a message.
func (p *page) receive(e eventstream.Event) {
	if string(e.Type) == eventstream.MarkType {
		return
	}

	p.mu.Lock()
	defer p.mu.Unlock()

	topic, number, _ := strings.Cut(string(e.Data), " ")

	n, err := strconv.Atoi(number)
	if err != nil || topic != strconv.Itoa(p.topic) {
		p.reset = fmt.Sprintf("%s %s", e.Type, e.Data)

		return
	}

	p.events++

	switch {
	case p.next < 0:
		p.first = n
	case n < p.next:
		p.duplicates++
	case n > p.next:
		p.gaps++
	}

	p.next = n + 1
}

// after returns the number of the first message after the page's position. ids holds the
// sequence numbers of all messages.
func (p *page) after(ids []uint64) int {
	n, _ := slices.BinarySearch(ids, sequenceOf(p.position)+1)

	return n
}

// complete reports whether the page has got all messages after its position.
func (p *page) complete(ids []uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	return max(p.next, p.after(ids)) == len(ids)
}

// check checks that the first message is the one after the position, and that nothing
// else arrived.
func (p *page) check(t *testing.T, ids []uint64) {
	t.Helper()

	want := p.after(ids)

	switch {
	case p.first > want:
		p.gaps++
	case p.first >= 0 && p.first < want:
		p.duplicates++
	}

	if p.reset != "" || p.gaps > 0 || p.duplicates > 0 || p.first > p.state {
		t.Errorf("%v got %d gaps, %d duplicates and %q; the first message is %d, want %d", p, p.gaps, p.duplicates, p.reset, p.first, want)
	}
}

// sequenceOf returns the sequence number in an event id.
func sequenceOf(id string) uint64 {
	_, digits, _ := strings.Cut(id, "-")
	n, _ := strconv.ParseUint(digits, 10, 64)

	return n
}
