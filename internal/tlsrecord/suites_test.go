package tlsrecord_test

import (
	"crypto/tls"
	"slices"
	"testing"
	_ "unsafe" // for go:linkname
)

// The cipher suites of TLS 1.3 can't be configured, but these variables of crypto/tls
// are kept for quic-go, which needs them for its tests as well.
//
//go:linkname suites crypto/tls.defaultCipherSuitesTLS13
var suites []uint16 //nolint:gochecknoglobals // It is a variable of crypto/tls.

//go:linkname suitesWithoutAES crypto/tls.defaultCipherSuitesTLS13NoAES
var suitesWithoutAES []uint16 //nolint:gochecknoglobals // It is a variable of crypto/tls.

// useSuite makes crypto/tls use this suite only until the test ends.
func useSuite(tb testing.TB, suite uint16) {
	tb.Helper()

	before, beforeWithoutAES := suites, suitesWithoutAES

	tb.Cleanup(func() { suites, suitesWithoutAES = before, beforeWithoutAES })

	suites, suitesWithoutAES = []uint16{suite}, []uint16{suite}
}

// allSuites returns the suites of TLS 1.3 that crypto/tls implements.
func allSuites() []uint16 {
	var all []uint16

	for _, s := range tls.CipherSuites() {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS13) {
			all = append(all, s.ID)
		}
	}

	return all
}

// forEachSuite runs the test with each suite.
func forEachSuite(t *testing.T, test func(t *testing.T)) {
	t.Helper()

	for _, suite := range allSuites() {
		t.Run(tls.CipherSuiteName(suite), func(t *testing.T) {
			useSuite(t, suite)
			test(t)
		})
	}
}
