package main

import (
	"context"
	"io"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// Run is the whole program, for tests in this process.
func Run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	return run(ctx, args, getenv, stdin, stdout, stderr)
}

// Latencies is latencies, for tests of its arithmetic.
func Latencies(is, before *pealv1.Histogram) string { return latencies(is, before) }
