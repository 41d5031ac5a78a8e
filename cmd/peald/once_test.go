package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/peald/peald/internal/flags"
)

// TestRepeatedFlags sets every flag of every command twice.
func TestRepeatedFlags(t *testing.T) {
	t.Parallel()

	var check func(cmd *cobra.Command)

	check = func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			_, list := f.Value.(pflag.SliceValue)
			if own, ok := f.Value.(flags.Repeatable); ok {
				list = list || own.Repeatable()
			}

			_ = f.Value.Set(f.DefValue) // some flags reject their default, but the attempt still counts

			err := f.Value.Set(f.DefValue)
			if twice := err != nil && strings.Contains(err.Error(), "set twice"); twice == list {
				t.Errorf("%s --%s, set twice: %v", cmd.CommandPath(), f.Name, err)
			}
		})

		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}

	check(rootCommand(nil, nil))
}
