package eventstream_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/peald/peald/internal/eventstream"
)

type event struct{ typ, data, id string }

// whatwg is an independent decoder that follows the text of the standard and is as
// simple as possible. It reads the whole stream at once and shares no code with the
// package.
func whatwg(stream string) (events []event, lastID string) {
	stream = strings.TrimPrefix(stream, "\uFEFF")
	stream = strings.ReplaceAll(stream, "\r\n", "\n")
	stream = strings.ReplaceAll(stream, "\r", "\n")
	lines := strings.Split(stream, "\n")
	lines = lines[:len(lines)-1] // the rest after the last line end is incomplete
	var typ, data, id string
	for _, line := range lines {
		if line == "" {
			lastID = id
			if data != "" {
				if typ == "" {
					typ = "message"
				}
				events = append(events, event{typ, strings.TrimSuffix(data, "\n"), lastID})
			}
			typ, data = "", ""
			continue
		}

		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			typ = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.Contains(value, "\x00") {
				id = value
			}
		}
	}

	return events, lastID
}

// decode feeds stream to the package's decoder in pieces of n bytes.
func decode(stream string, n int) (events []event, lastID string) {
	d := eventstream.Decoder{OnEvent: func(e eventstream.Event) {
		events = append(events, event{string(e.Type), string(e.Data), string(e.ID)})
	}}
	for len(stream) > 0 {
		k := min(n, len(stream))
		_, _ = d.Write([]byte(stream[:k]))
		stream = stream[k:]
	}
	return events, d.LastEventID()
}

// asReceived returns a publisher's data as EventSource delivers it.
func asReceived(data string) string {
	return strings.ReplaceAll(strings.ReplaceAll(data, "\r\n", "\n"), "\r", "\n")
}

func equal(a, b []event) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// FuzzRoundTrip encodes an event and decodes it again, with both decoders.
func FuzzRoundTrip(f *testing.F) {
	for _, data := range []string{
		"x", " leading space", ": colon", "a\nb", "a\r\nb", "a\rb", "trailing\n", "\n", "\r\r\n\n",
		"data: x\n\nid: forged", "\uFEFFbom", "nul\x00inside", "emoji 🎉\u2028", "event: forged\r\rdata: x",
	} {
		f.Add("", data, 1)
		f.Add("price", data, 7)
	}

	f.Fuzz(func(t *testing.T, typ, data string, cut int) {
		if eventstream.ValidType(typ) != nil || data == "" || !utf8.ValidString(data) {
			t.Skip()
		}

		cut = 1 + abs(cut)%64
		stream := eventstream.AppendRetry(nil, time.Second)
		stream = append(stream, ": hello\n"...)
		stream = eventstream.AppendEnd(stream)
		stream = eventstream.AppendEvent(stream, "e-1", typ, data)
		stream = eventstream.AppendEnd(eventstream.AppendID(stream, "e-2"))

		wantType := typ
		if wantType == "" {
			wantType = "message"
		}

		want := []event{{wantType, asReceived(data), "e-1"}}
		got, lastID := whatwg(string(stream))
		if !equal(got, want) || lastID != "e-2" {
			t.Errorf("whatwg: type %q and data %q are decoded as %q with last id %q", typ, data, got, lastID)
		}

		got, lastID = decode(string(stream), cut)
		if !equal(got, want) || lastID != "e-2" {
			t.Errorf("Decoder: type %q and data %q are decoded as %q with last id %q", typ, data, got, lastID)
		}
	})
}

// FuzzDecoderFollowsTheStandard compares both decoders on arbitrary input.
func FuzzDecoderFollowsTheStandard(f *testing.F) {
	for _, s := range []string{
		"data: a\n\n", "data\n\ndata\ndata\n\ndata:\n\n", ":c\n\n", "id: 1\r\rid\n\ndata:x\r\n\r\n", "\uFEFFdata: x\n\n",
		"\uFEFF\uFEFFdata: x\n\n", "id: a\x00b\ndata: x\n\n", "event: a\nevent\ndata: x\n\n", "retry: 12\ndata:  two\n\n", "data: cut",
	} {
		f.Add(s, 1)
		f.Add(s, 100)
	}
	f.Fuzz(func(t *testing.T, stream string, cut int) {
		cut = 1 + abs(cut)%64
		want, wantID := whatwg(stream)
		got, gotID := decode(stream, cut)
		if !equal(got, want) || gotID != wantID {
			t.Errorf("stream %q cut every %d bytes: got %q and last id %q, want %q and %q", stream, cut, got, gotID, want, wantID)
		}
	})
}

func abs(n int) int {
	if n < 0 {
		return -(n + 1)
	}
	return n
}

func TestRetry(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"retry: 3000\n\n": 3 * time.Second, "retry: -1\n\n": 0, "retry: 1x\n\n": 0, "retry:\n\n": 0, "retry: 7\nretry: x\n\n": 7 * time.Millisecond,
		"retry: 999999999999999\n\n": (1<<63 - 1) / time.Millisecond * time.Millisecond,
	} {
		var d eventstream.Decoder
		_, _ = d.Write([]byte(in))
		if d.Retry() != want {
			t.Errorf("%q: retry %v, want %v", in, d.Retry(), want)
		}
	}
}

// TestResume decodes a stream that continues an earlier one: its blocks without an id
// keep that of the earlier stream.
func TestResume(t *testing.T) {
	type seen struct {
		data, id string
		hasID    bool
	}
	var got []seen
	d := eventstream.Decoder{OnEvent: func(e eventstream.Event) { got = append(got, seen{string(e.Data), string(e.ID), e.HasID}) }}
	d.Resume("a-7")
	_, _ = d.Write([]byte("data: x\n\nid: a-8\ndata: y\n\ndata: z\n\nid\n\ndata: w\n\n"))
	want := []seen{{"x", "a-7", false}, {"y", "a-8", true}, {"z", "a-8", false}, {"w", "", false}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestBuffered checks that the decoder reports the memory for a block that has not
// ended, whichever fields it consists of.
func TestBuffered(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, block := range []string{long, ":" + long, "data:" + long, "data:" + long + "\n", "event:" + long + "\n", "id:" + long + "\n", strings.Repeat("data: 123\n", 25)} {
		var d eventstream.Decoder
		_, _ = d.Write([]byte(block))
		if n := d.Buffered(); n < 100 || n > len(block) {
			t.Errorf("%.20q: %d bytes are buffered, want from 100 to %d", block, n, len(block))
		}
		_, _ = d.Write([]byte("\n\n"))
		if n := d.Buffered(); n != 0 {
			t.Errorf("%.20q: %d bytes are buffered after the block", block, n)
		}
	}
}

func TestValidType(t *testing.T) {
	for typ, ok := range map[string]bool{
		"": true, "price": true, "größe ✓": true, "a: b": true, strings.Repeat("x", 255): true,
		"a\nb": false, "a\rb": false, "a\x00b": false, "a\xffb": false, strings.Repeat("x", 256): false,
	} {
		if err := eventstream.ValidType(typ); (err == nil) != ok {
			t.Errorf("type %q: error %v, want valid %v", typ, err, ok)
		}
	}
}

func TestAppendLine(t *testing.T) {
	const id, typ, data = "k3f9-1042", "price", `{"a":" b"}`
	want := string(eventstream.AppendEvent(nil, id, typ, data))
	if got := string(eventstream.AppendLine(nil, id, typ, []byte(data))); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	for _, size := range []int{100, 4096} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			data := strings.Repeat("x", size)
			buf := make([]byte, 0, 2*size)
			b.ReportAllocs()
			for b.Loop() {
				buf = eventstream.AppendEvent(buf[:0], "k3f9-1042", "broadcast", data)
			}
		})
	}
}

func BenchmarkDecoder(b *testing.B) {
	frame := eventstream.AppendEvent(nil, "k3f9-1042", "broadcast", strings.Repeat("x", 100))
	d := eventstream.Decoder{OnEvent: func(eventstream.Event) {}}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = d.Write(frame)
	}
}
