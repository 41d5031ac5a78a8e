package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

func newHealth(s *session) *cobra.Command {
	var live bool
	var service string

	cmd := &cobra.Command{
		Use:   "health",
		Short: "Check whether the daemon is ready",
		Long: `Query the standard gRPC health service of the daemon and print its status. The
exit status is 0 if the daemon is serving, and 1 if it is starting, draining or
unreachable. No token is required.

With --live the exit status is 0 for any reply. Use it for liveness checks, so
that a draining daemon isn't restarted.`,
		Example: `  pealctl health --timeout 2s
  pealctl health --live`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error { return s.health(cmd.Context(), service, live) },
	}

	cmd.Flags().BoolVar(&live, "live", false, "accept any reply as success")
	cmd.Flags().StringVar(&service, "service", "", "check one service by `name`, such as peal.v1.ControlService (default: the whole daemon)")
	return cmd
}

func (s *session) health(ctx context.Context, service string, live bool) (err error) {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()

	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()

	reply, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}

	state := strings.ToLower(strings.ReplaceAll(reply.GetStatus().String(), "_", " "))
	shown := state

	if s.output.json {
		text, err := jsonOf(reply)
		if err != nil {
			return err
		}
		shown = string(text)
	}

	if _, err := fmt.Fprintln(s.stdout, shown); err != nil {
		return err
	}
	if reply.GetStatus() != healthv1.HealthCheckResponse_SERVING && !live {
		return fmt.Errorf("the daemon is %s", state)
	}

	return nil
}
