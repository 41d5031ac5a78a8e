package http2conn_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"golang.org/x/net/http2"

	"github.com/peald/peald/internal/http2conn"
)

// FuzzReceive passes anything to a connection. It must not matter how the bytes are
// split, and neither may the output exceed its limit.
func FuzzReceive(f *testing.F) {
	for i, test := range conformanceCases() {
		c := newClient(f, http2conn.Config{})
		c.WriteSettings()
		c.WriteSettingsAck()
		if test.name == "too many streams" || test.section == "10.5.1" {
			continue // too long
		}
		test.send(c)
		f.Add(bytes.Clone(c.sent.Bytes()), uint8(i))
	}

	f.Fuzz(func(t *testing.T, sent []byte, mode uint8) {
		whole := newTranscript(mode)
		whole.receive(sent)
		pieces := newTranscript(mode)
		for n := 1; len(sent) > 0; n = (n*7 + int(mode)) % 40 {
			piece := bytes.Clone(sent[:min(n, len(sent))])
			pieces.receive(piece)
			clear(piece) // the connection mustn't keep it
			sent = sent[len(piece):]
		}

		if whole.String() != pieces.String() {
			t.Errorf("at once:\n%s\nin pieces:\n%s", whole.String(), pieces.String())
		}
		whole.end(t)
		pieces.end(t)
		if !bytes.Equal(whole.output, pieces.output) {
			t.Errorf("the output depends on how the bytes are split")
		}
	})
}

// transcript is a handler that writes down its calls. What it answers depends on
// mode.
type transcript struct {
	bytes.Buffer
	mode   uint8
	codec  *http2conn.Codec
	conn   *http2conn.Conn
	output []byte
	open   int
	err    error
}

func newTranscript(mode uint8) *transcript {
	tr := &transcript{mode: mode, codec: http2conn.NewCodec()}
	tr.conn = http2conn.NewServer(newClock().config()).NewConn(tr)
	tr.conn.SkipPreface()

	return tr
}

func (tr *transcript) receive(p []byte) {
	if tr.err == nil {
		if tr.err = tr.conn.Receive(tr.codec, p); tr.err != nil {
			fmt.Fprintln(tr, tr.err)
		}
	}
}

// end ends the connection, and checks its state and output.
func (tr *transcript) end(t *testing.T) {
	if tr.err == nil && tr.conn.Streams() != tr.open {
		t.Errorf("%d streams are open, want %d", tr.conn.Streams(), tr.open)
	}
	tr.conn.Close(errTest)
	if tr.conn.Streams() != 0 || tr.open != 0 {
		t.Errorf("%d and %d streams are open after Close", tr.conn.Streams(), tr.open)
	}

	control := tr.conn.AppendOutput(nil)
	if len(control) > 80<<10 {
		t.Errorf("%d bytes of output", len(control))
	}
	tr.output = append(tr.output, control...)
	framer := http2.NewFramer(nil, bytes.NewReader(tr.output))
	for {
		if _, err := framer.ReadFrame(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("invalid output: %v", err)
			}
			return
		}
	}
}

func (tr *transcript) Request(st *http2conn.Stream, r *http.Request) {
	fmt.Fprintln(tr, st.ID(), r.Method, r.Host, r.RequestURI, r.URL, r.ContentLength, r.Header)
	tr.open++
	if tr.mode&2 != 0 {
		st.SendHeaders(tr.codec, http.StatusOK, http.Header{"X": {"y"}}, tr.mode&4 != 0)
		if tr.mode&4 != 0 {
			tr.open--
			return
		}
		tr.Writable(st)
	}
}

func (tr *transcript) Data(st *http2conn.Stream, p []byte, end bool) {
	fmt.Fprintf(tr, "%d %q %t\n", st.ID(), p, end)
	if tr.mode&8 != 0 {
		st.Consumed(len(p))
	}
	if tr.mode&16 != 0 && end {
		st.Reset(http2.ErrCodeNo)
		tr.open--
	}
}

func (tr *transcript) Writable(st *http2conn.Stream) {
	var n int
	tr.output, n = st.Send(tr.output, [][]byte{make([]byte, 10_000), {1, 2}})
	fmt.Fprintln(tr, st.ID(), "sent", n)
	if tr.mode&32 != 0 {
		tr.output = st.End(tr.output)
		tr.open--
	}
}

func (tr *transcript) Closed(st *http2conn.Stream, err error) {
	fmt.Fprintln(tr, st.ID(), err)
	tr.open--
}
