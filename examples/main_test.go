package examples_test

import (
	"os"
	"testing"

	"github.com/peald/peald/internal/browsertest"
)

func TestMain(m *testing.M) { os.Exit(browsertest.Main(m)) }
