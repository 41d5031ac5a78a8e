package load_test

import (
	"os"
	"testing"

	"github.com/peald/peald/internal/sourcetest"
)

func TestMain(m *testing.M) {
	sourcetest.Serve()
	os.Exit(m.Run())
}
