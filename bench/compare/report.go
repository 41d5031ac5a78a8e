//go:build linux

package main

import (
	"fmt"
	"io"
)

func report(w io.Writer, r *Results) error { _, err := fmt.Fprintln(w, r.Targets); return err }
func writeDocs(string, *Results) error     { return nil }
