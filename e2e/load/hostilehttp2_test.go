package load_test

import (
	"context"
	"net"

	"golang.org/x/net/http2"
)

// controlFrames floods the daemon with PING and SETTINGS, which it must answer,
// and reads none of the answers.
func controlFrames(_ context.Context, conn net.Conn) error {
	f, err := framer(conn)
	if err != nil {
		return err
	}

	for {
		if err := f.WritePing(false, [8]byte{}); err != nil {
			return err
		}

		if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}); err != nil {
			return err
		}
	}
}

// closedWindows opens as many streams as it may, with windows of zero bytes, and
// opens them for a byte now and then.
func closedWindows(ctx context.Context, conn net.Conn) error {
	f, err := framer(conn)
	if err != nil {
		return err
	}

	if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		return err
	}

	block := requestHeader()

	const streams = 200
	for i := range uint32(streams) {
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: block, EndStream: true, EndHeaders: true}); err != nil {
			return err
		}
	}

	for i := uint32(0); ctx.Err() == nil; i++ {
		if err := f.WriteWindowUpdate(2*(i%streams)+1, 1); err != nil {
			return err
		}
	}

	return ctx.Err()
}
