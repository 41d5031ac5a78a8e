package main

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestWithStreamURL(t *testing.T) {
	t.Parallel()

	fault, call := errors.New("3 lost"), status.Error(codes.Unavailable, "no")

	for name, test := range map[string]struct {
		set  []string
		err  error
		want string
	}{
		"neither":    {nil, fault, "3 lost"},
		"both":       {[]string{"addr", "url"}, fault, "3 lost"},
		"addr":       {[]string{"addr"}, fault, "3 lost; --url is not set, so the streams are those at http://127.0.0.1:8080/events"},
		"call error": {[]string{"addr"}, call, call.Error()},
		"success":    {[]string{"addr"}, nil, ""},
	} {
		bench, _, err := newRoot(&session{}).Find([]string{"bench"})
		if err != nil {
			t.Fatal(err)
		}

		flags := bench.Flags()
		flags.AddFlagSet(bench.InheritedFlags())

		for _, name := range test.set {
			if err := flags.Set(name, "x"); err != nil {
				t.Fatal(err)
			}
		}

		got := ""
		if err := withStreamURL(flags, test.err); err != nil {
			got = err.Error()
		}

		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
