package testbed

import (
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"testing"
)

// FreeAddrs returns n different unused loopback addresses.
func FreeAddrs(tb testing.TB, n int) []string {
	tb.Helper()

	addrs := make([]string, 0, n)

	for len(addrs) < n {
		addr, err := FreeAddr()
		if err != nil {
			tb.Fatal(err)
		}

		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}

	return addrs
}

// FreeAddr returns an unused loopback address. Its port is below the range that
// systems use for outgoing connections and for port 0. Otherwise, other tests
// could occupy it before it is used.
func FreeAddr() (string, error) {
	const lowest, ports, tries = 12000, 20000, 100

	for try := 0; ; try++ {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(lowest+rand.IntN(ports)))
		listener, err := net.Listen("tcp", addr) //nolint:noctx // returns immediately

		switch {
		case err == nil:
			return addr, listener.Close()
		case try == tries:
			return "", err
		}
	}
}
