package main

import (
	"context"
	"io"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// Run exports run.
func Run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	return run(ctx, args, getenv, stdin, stdout, stderr)
}

// Latencies exports latencies.
func Latencies(now, before *pealv1.Histogram) string { return latencies(now, before) }
