package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// pageFlags select pages of a list.
type pageFlags struct {
	all   bool
	size  int32
	token string
}

// add defines the flags on cmd. The entries are what is listed, in the plural.
func (f *pageFlags) add(cmd *cobra.Command, entries string) {
	cmd.Flags().BoolVar(&f.all, "all", false, "list every page")
	cmd.Flags().Int32Var(&f.size, "page-size", 0, entries+" per page (default 100, maximum 1000)")
	cmd.Flags().StringVar(&f.token, "page-token", "", "start at the page with this `token`, as printed with the previous page")
}

// pages calls get for the page that the flags select, or for that page and all that
// follow it. get returns the token of the next page.
func (s *session) pages(ctx context.Context, f *pageFlags, get func(ctx context.Context, c pealv1.ControlServiceClient) (next string, err error)) error {
	for more := true; more; more = f.all && f.token != "" {
		err := s.call(ctx, func(ctx context.Context, c pealv1.ControlServiceClient) (err error) {
			f.token, err = get(ctx, c)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// noteNextPage prints how to get the next page, if there is one. In JSON, the reply
// contains its token.
func (s *session) noteNextPage(token string) {
	if token != "" && !s.output.json {
		fmt.Fprintf(s.stderr, "More pages follow. Use --all to list them, or --page-token %q for the next page.\n", token)
	}
}
