package http2conn_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/peald/peald/internal/http2conn"
)

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// TestStream opens a stream, sends on it and ends it.
func TestStream(t *testing.T) {
	c := connect(t, http2conn.Config{})
	st := c.request(1)
	st.SendHeaders(c.codec, http.StatusOK, http.Header{"Content-Type": {"text/event-stream"}, "Connection": {"keep-alive"}}, false)

	out, n := st.Send(nil, [][]byte{[]byte("data: "), nil, []byte("hello\n\n")})
	if n != 13 {
		t.Errorf("sent %d bytes, want 13", n)
	}
	c.input.Write(st.End(out))
	expect(t, c.describe(), "HEADERS 1 200", `DATA 1 "data: hello\n\n"`, `DATA 1 "" end`)

	if c.conn.Streams() != 0 || len(c.handler.closed) != 0 {
		t.Errorf("%d streams are open, %v closed", c.conn.Streams(), c.handler.closed)
	}
}

// TestClosedWindows checks that a stream without a window doesn't block another
// one, and that Writable is called when one can send again.
func TestClosedWindows(t *testing.T) {
	c := newClient(t, http2conn.Config{})
	c.preface()
	c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5})
	c.flush()
	c.handler.answer = true
	first, second := c.request(1), c.request(3)
	c.replies()

	out, n := first.Send(nil, [][]byte{[]byte("0123456789")})
	if n != 5 || !first.Blocked() || first.Window() != 0 {
		t.Errorf("sent %d bytes, want 5; blocked is %t", n, first.Blocked())
	}
	out, n = second.Send(out, [][]byte{[]byte("abc")})
	if n != 3 || second.Blocked() {
		t.Errorf("sent %d bytes, want 3; blocked is %t", n, second.Blocked())
	}
	c.input.Write(out)
	expect(t, c.describe(), `DATA 1 "01234"`, `DATA 3 "abc"`)

	c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 2})
	c.WriteWindowUpdate(1, 3)
	c.flush()
	if first.Window() != 0 || len(c.handler.writable) != 0 {
		t.Errorf("the window is %d, and streams %d are writable", first.Window(), c.handler.writable)
	}
	c.WriteWindowUpdate(1, 1)
	c.flush()
	if first.Window() != 1 || !slices.Equal(c.handler.writable, []uint32{1}) {
		t.Errorf("the window is %d, and streams %d are writable", first.Window(), c.handler.writable)
	}
	if _, n := first.Send(nil, [][]byte{{'x'}}); n != 1 || first.Blocked() {
		t.Errorf("sent %d bytes, want 1; blocked is %t", n, first.Blocked())
	}
}
