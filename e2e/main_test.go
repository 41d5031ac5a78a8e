package e2e_test

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/peald/peald/internal/browsertest"
)

// TestMain lets more tests run at a time than there are processors on small
// machines, since most of them wait for a browser or for another process. The
// flag -parallel takes precedence.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", strconv.Itoa(max(6, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}

	os.Exit(browsertest.Main(m))
}
