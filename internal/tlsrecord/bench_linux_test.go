package tlsrecord_test

import (
	"crypto/tls"
	"fmt"
	"syscall"
	"testing"

	"github.com/peald/peald/internal/tlsrecord"
)

// cpuTime returns the processor time of this process in nanoseconds. Unlike the time
// that a benchmark measures, it includes that of the garbage collector, and doesn't
// depend on other processes as much.
func cpuTime(b *testing.B) float64 {
	b.Helper()

	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}

	return float64(usage.Utime.Nano() + usage.Stime.Nano())
}

// measure runs f in b.Loop and reports allocations and processor time.
func measure(b *testing.B, f func()) {
	b.Helper()
	b.ReportAllocs()

	begin := cpuTime(b)

	for b.Loop() {
		f()
	}

	b.ReportMetric((cpuTime(b)-begin)/float64(b.N), "cpu-ns/op")
}

// BenchmarkSeal seals one event per call, as the engine does for each stream.
func BenchmarkSeal(b *testing.B) {
	for _, suite := range allSuites() {
		for _, size := range []int{100, 2048, tlsrecord.MaxPlaintext} {
			b.Run(fmt.Sprintf("%s/%d", tls.CipherSuiteName(suite), size), func(b *testing.B) {
				layer := newLayer(b, suite)
				pieces := [][]byte{make([]byte, size)}
				dst := make([]byte, 0, size+tlsrecord.Overhead)

				measure(b, func() { dst = layer.Seal(dst[:0], pieces) })
			})
		}
	}
}

// BenchmarkSealExpanded seals one event per call under a key that stays expanded.
func BenchmarkSealExpanded(b *testing.B) {
	for _, suite := range allSuites() {
		b.Run(tls.CipherSuiteName(suite), func(b *testing.B) {
			layer := newLayer(b, suite)
			tlsrecord.ShareBudget(1, layer)
			pieces := [][]byte{make([]byte, 100)}
			dst := make([]byte, 0, 100+tlsrecord.Overhead)

			measure(b, func() { dst = layer.Seal(dst[:0], pieces) })
		})
	}
}

// BenchmarkSealFanOut seals an event for one of 15,000 connections per call, in turn, so
// that neither layers nor keys are in the processor's caches. The connections have
// further memory for the garbage collector to scan, as streams do.
func BenchmarkSealFanOut(b *testing.B) {
	type stream struct {
		layer *tlsrecord.Layer
		other []*byte
	}

	for _, suite := range allSuites() {
		b.Run(tls.CipherSuiteName(suite), func(b *testing.B) {
			streams := make([]*stream, 15_000)
			for i := range streams {
				streams[i] = &stream{newLayer(b, suite), make([]*byte, 100)}
			}

			pieces := [][]byte{make([]byte, 100)}
			dst := make([]byte, 0, 100+tlsrecord.Overhead)
			next := 0

			measure(b, func() {
				dst = streams[next].layer.Seal(dst[:0], pieces)
				next = (next + 1) % len(streams)
			})
		})
	}
}

// BenchmarkOpen opens one record per call.
func BenchmarkOpen(b *testing.B) {
	for _, suite := range allSuites() {
		b.Run(tls.CipherSuiteName(suite), func(b *testing.B) {
			layer := newLayer(b, suite)
			record := layer.Mirror().Seal(nil, [][]byte{make([]byte, 100)})
			in := make([]byte, len(record))

			measure(b, func() {
				layer.SetSequences(0, 0)
				copy(in, record)

				if _, _, err := layer.Open(in); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkNewLayer derives the keys of a connection.
func BenchmarkNewLayer(b *testing.B) {
	for _, suite := range allSuites() {
		b.Run(tls.CipherSuiteName(suite), func(b *testing.B) {
			measure(b, func() { newLayer(b, suite) })
		})
	}
}

// BenchmarkHandshake performs handshakes with crypto/tls alone and with a layer that
// takes over. The results include the client.
func BenchmarkHandshake(b *testing.B) {
	for _, resumed := range []bool{false, true} {
		server, client := configs(b)
		if resumed {
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		}

		b.Run(fmt.Sprintf("crypto/tls/resumed=%t", resumed), func(b *testing.B) {
			measure(b, func() {
				serverConn, clientConn := pipe(b)
				tc := tls.Server(serverConn, server)
				done := make(chan error, 1)

				go func() { done <- connectClient(tls.Client(clientConn, client)) }()

				if err := tc.Handshake(); err != nil {
					b.Fatal(err)
				}
				tc.Write([]byte("x"))

				if err := <-done; err != nil {
					b.Fatal(err)
				}
				serverConn.Close()
			})
		})

		b.Run(fmt.Sprintf("layer/resumed=%t", resumed), func(b *testing.B) {
			h := tlsrecord.NewHandshaker(server, 0, nil)

			measure(b, func() {
				serverConn, clientConn := pipe(b)
				done := make(chan error, 1)

				go func() { done <- connectClient(tls.Client(clientConn, client)) }()

				_, layer, err := h.Handshake(b.Context(), serverConn)
				if err != nil || layer == nil {
					b.Fatal(layer, err)
				}
				serverConn.Write(layer.Seal(nil, [][]byte{[]byte("x")}))

				if err := <-done; err != nil {
					b.Fatal(err)
				}
				serverConn.Close()
			})
		})
	}
}

// connectClient reads a byte, and thereby the session ticket.
func connectClient(client *tls.Conn) error {
	defer client.Close()

	_, err := client.Read(make([]byte, 1))

	return err
}
