package main

import (
	"flag"
	"testing"

	"github.com/peald/peald/internal/manpages"
)

var manFolder = flag.String("man", "", "write the man pages into this `folder`")

func TestManPages(t *testing.T) {
	t.Parallel()
	manpages.Test(t, rootCommand(nil, nil), *manFolder)
}
