package broker

import (
	"testing"

	"github.com/peald/peald/internal/eventstream"
)

// FuzzFields checks that fields returns what a decoder does.
func FuzzFields(f *testing.F) {
	for _, data := range []string{"a", "a\nb", "\n\n", "\ndata: \r\n\r", " x", "data: \n\ndata: x\n", "\n", "id: a-1\n\n"} {
		f.Add(data, "")
		f.Add(data, "data: ")
	}
	f.Fuzz(func(t *testing.T, data, typ string) {
		m := Message{Audience: Everyone(), Event: typ, Data: data}
		if m.Validate() != nil {
			return
		}
		ids := newIDFormat("k3f9")
		e := new(event)
		e.frame, _ = seal(encodeFields(&m, ids.room), ids.room, ids.epoch, 1042)

		var want [3]string
		decoder := eventstream.Decoder{OnEvent: func(d eventstream.Event) {
			want = [3]string{string(d.ID), string(d.Type), string(d.Data)}
		}}
		_, _ = decoder.Write(e.frame.block())
		if id, typ, data := e.fields(); [3]string{id, typ, data} != want {
			t.Errorf("got %q, %q, %q; want %q", id, typ, data, want)
		}
	})
}
