package control_test

import (
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/test/bufconn"

	"github.com/peald/peald/control"
)

// A client that pings every 5 seconds keeps its connection, even if it has no
// open call and network jitter shortens the time between pings.
func TestKeepalivePings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := control.New(control.Config{Logger: slog.New(slog.DiscardHandler)}, &fakeBroker{}, nil)
		defer service.Close()

		server := service.GRPCServer()
		defer server.Stop()

		listener := bufconn.Listen(64 << 10)

		go func() { _ = server.Serve(listener) }()

		conn, err := listener.DialContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}

		defer func() { _ = conn.Close() }()

		framer := http2.NewFramer(conn, conn)
		if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
			t.Fatal(err)
		}

		if err := framer.WriteSettings(); err != nil {
			t.Fatal(err)
		}

		for n := range 50 {
			// Only sleeping advances the bubble's clock.
			time.Sleep(5*time.Second + time.Duration(n%3-1)*500*time.Millisecond)

			if err := framer.WritePing(false, [8]byte{byte(n)}); err != nil {
				t.Fatalf("ping %d: %v", n, err)
			}

			awaitPong(t, framer, byte(n))
		}
	})
}

// awaitPong reads frames until the acknowledgement of ping n.
func awaitPong(t *testing.T, framer *http2.Framer, n byte) {
	t.Helper()

	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("ping %d: %v", n, err)
		}

		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			t.Fatalf("ping %d: %v %q", n, frame.ErrCode, frame.DebugData())
		case *http2.PingFrame:
			if frame.IsAck() && frame.Data[0] == n {
				return
			}
		}
	}
}
