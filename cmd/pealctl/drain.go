package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func newDrain(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "drain",
		Short: "Have the daemon end, and wait until its streams are gone",
		Long: `Have the daemon end as SIGTERM does: it is no longer ready, and its streams are
ended one after the other, spread over drain.timeout where they are many. On a
terminal a line tells how many are left; with --output json each report is a
line of JSON. An interrupt ends the waiting, and not the drain.`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error { return s.drain(cmd.Context()) },
	}
}

func (s *session) drain(ctx context.Context) (err error) {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()

	reports, err := pealv1.NewControlServiceClient(conn).Drain(ctx, &pealv1.DrainRequest{})
	if err != nil {
		return err
	}

	progress := newScreen(s.stdout)
	last := &pealv1.DrainResponse{}

	for {
		report, err := reports.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := s.printDrain(progress, report); err != nil {
			return err
		}

		last = report
	}

	s.awaitEnd(ctx, conn)
	if s.output.json || progress.terminal != nil {
		return nil
	}

	_, err = fmt.Fprintf(s.stdout, "%s\n", streamsLeft(last))
	return err
}

func streamsLeft(report *pealv1.DrainResponse) string {
	return fmt.Sprintf("%d streams left", report.GetConnections())
}

func (s *session) printDrain(progress *screen, report *pealv1.DrainResponse) error {
	switch {
	case s.output.json:
		text, err := jsonOf(report)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.stdout, "%s\n", text)
		return err
	case progress.terminal != nil:
		return progress.draw(streamsLeft(report))
	default:
		return nil
	}
}

// awaitEnd waits for the daemon to close the connection, which is the last that
// it does, or for as long as a call may take.
func (s *session) awaitEnd(ctx context.Context, conn *grpc.ClientConn) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if conn.GetState() == connectivity.Ready {
		conn.WaitForStateChange(ctx, connectivity.Ready)
	}
}
