package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/source/outbox"
)

func newSources(s *session) *cobra.Command {
	sources := &cobra.Command{
		Use:   "sources",
		Short: "List the sources that the daemon reads messages from",
		Long: `List the sources that the daemon reads messages from, with their lag and their last
errors. In a cluster, each source has a row for each node.

  state      connecting; standby: another node reads the source; active; waiting:
             the node can't publish at the moment; failed: it will be retried
  lag        how many records aren't published yet
  oldest     how long the oldest of them has existed
  published  how many records the node has published since it started
  rejected   how many records can't be published
  failures   how often reading the source has failed

With --output json the output is that of the stats command, which includes the
sources.`,
		Example: `  pealctl sources`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.call(cmd.Context(), s.printSources)
		},
	}

	sources.AddCommand(newSourceSchema(s))
	return sources
}

func (s *session) printSources(ctx context.Context, c pealv1.ControlServiceClient) error {
	reply, err := c.Stats(ctx, &pealv1.StatsRequest{})
	if err != nil {
		return err
	}

	now := time.Now()
	if err := s.print(reply, sourceRows(reply, now)); err != nil || s.output.json {
		return err
	}
	for _, source := range reply.GetSources() {
		if source.GetLastError() != "" {
			fmt.Fprintf(s.stdout, "%s, %s: %s\n", escaped(sourceOn(source)), agoOf(source.GetLastErrorAt(), now), escaped(source.GetLastError()))
		}
	}
	return nil
}

func sourceRows(reply *pealv1.StatsResponse, now time.Time) func(table.Writer) {
	return func(t table.Writer) {
		header(t, "source", "kind", "node", "state", "lag", "oldest", "published", "rejected", "failures")
		for _, source := range reply.GetSources() {
			node, lag := "-", "-"
			if source.GetNode() != "" {
				node = escaped(source.GetNode())
			}
			if source.GetLag() != nil {
				lag = strconv.FormatInt(source.GetLagRecords(), 10)
			}
			t.AppendRow(table.Row{
				escaped(source.GetName()), escaped(source.GetKind()), node,
				strings.ToLower(strings.TrimPrefix(source.GetState().String(), "SOURCE_STATE_")),
				lag, agoOf(source.GetOldestRecord(), now), source.GetPublished(), source.GetRejected(), source.GetFailures(),
			})
		}
	}
}

// sourceOn names a source and, in a cluster, the node.
func sourceOn(source *pealv1.Source) string {
	if source.GetNode() == "" {
		return source.GetName()
	}
	return source.GetName() + " on " + source.GetNode()
}

func newSourceSchema(s *session) *cobra.Command {
	schema := &cobra.Command{
		Use:   "schema",
		Short: "Print what a source needs on its server",
		Args:  arguments(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}

	tableName, deadLetter := outbox.DefaultTable, ""
	postgres := &cobra.Command{
		Use:   "postgres",
		Short: "Print the SQL statements that create an outbox in PostgreSQL",
		Long: `Print the SQL statements that create the table from which a source of the kind
postgres reads, and its triggers. Run them as the owner of the table. Writers need
the INSERT privilege on the table, and peald needs SELECT and DELETE.

With --dead-letter they also create the table for rows that can't be published, on
which peald needs INSERT.`,
		Example: `  pealctl sources schema postgres | psql shop
  pealctl sources schema postgres --table app.outbox --dead-letter app.outbox_rejected`,
		Args: arguments(),
		RunE: func(*cobra.Command, []string) error {
			name, ok := outbox.ParseTable(tableName)
			if !ok {
				return usagef("--table: invalid name %q; want the name of a table, with or without a schema, such as %s", tableName, outbox.DefaultTable)
			}
			rejected, ok := outbox.ParseTable(deadLetter)
			if !ok && deadLetter != "" {
				return usagef("--dead-letter: invalid name %q; want the name of a table, with or without a schema, such as peald_rejected", deadLetter)
			}
			_, err := fmt.Fprint(s.stdout, outbox.Schema(name, rejected))
			return err
		},
	}
	postgres.Flags().StringVar(&tableName, "table", tableName, "name of the table, with or without a schema")
	postgres.Flags().StringVar(&deadLetter, "dead-letter", "", "name of the table for rows that can't be published")

	schema.AddCommand(postgres)
	return schema
}
