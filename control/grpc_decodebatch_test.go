package control_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// FuzzDecodeBatch checks that a batch is decoded as protobuf's library does if it accepts
// the whole batch.
func FuzzDecodeBatch(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(encodedBatch(append(field(3, "orders"), field(4, "hi")...), nil, field(11, "a")))
	f.Add(encodedBatch(field(4, "\xff"), field(4, "hello")[:3]))
	f.Add(append(field(2, "unknown"), encodedBatch(nil)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, want := new(pealv1.PublishBatchRequest), new(pealv1.PublishBatchRequest)
		err := control.DecodeBatch(data, got)
		if proto.Unmarshal(data, want) != nil {
			if err == nil {
				t.Errorf("%x was accepted", data)
			}
			return
		}
		want.ProtoReflect().SetUnknown(nil)
		if n := len(want.GetMessages()); (n == 0 || n > 1000) != (err != nil) || err == nil && !proto.Equal(got, want) {
			t.Errorf("%x: got %v, %v; want %v", data, got, err, want)
		}
	})
}
