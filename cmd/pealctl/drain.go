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
		Short: "Shut down the daemon and wait until its streams are closed",
		Long: `Shut down the daemon gracefully, as SIGTERM does. It stops reporting that it is
ready, then closes its streams one after the other, spread over drain.timeout if
there are many.

On a terminal the command shows how many streams are left. With --output json
each report is one line of JSON. An interrupt stops the command, but not the
drain.`,
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

	s.awaitClose(ctx, conn)
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

// awaitClose waits until the daemon closes the connection, the last thing it does
// before it exits. It waits no longer than the timeout of a call.
func (s *session) awaitClose(ctx context.Context, conn *grpc.ClientConn) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if conn.GetState() == connectivity.Ready {
		conn.WaitForStateChange(ctx, connectivity.Ready)
	}
}
