// Command go calls peald's control plane with the generated stubs.
//
//	PEALCTL_ADDR   the daemon's grpc.addr (127.0.0.1:9090)
//	PEALCTL_TOKEN  a token from control.tokens, if the daemon has any
//
// Usage: go run ./examples/go [USER]
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func main() {
	user := "alice"
	if len(os.Args) > 1 {
		user = os.Args[1]
	}

	if err := run(context.Background(), user, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, user string, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	if token := os.Getenv("PEALCTL_TOKEN"); token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}

	addr := cmp.Or(os.Getenv("PEALCTL_ADDR"), "127.0.0.1:9090")

	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("PEALCTL_ADDR: %w", err)
	}
	defer conn.Close()

	control := pealv1.NewControlServiceClient(conn)

	token, err := control.CreateToken(ctx, &pealv1.CreateTokenRequest{UserId: user, Ttl: durationpb.New(time.Hour)})
	if err != nil {
		return fmt.Errorf("create a token: %w", err)
	}

	fmt.Fprintf(stdout, "Subscriber token for %s: %s\n", user, token.GetToken())

	everyone, err := control.Broadcast(ctx, &pealv1.BroadcastRequest{Data: "Hello, everyone,\nfrom Go ☀"})
	if err != nil {
		return fmt.Errorf("broadcast: %w", err)
	}

	fmt.Fprintf(stdout, "To everyone: event %s, queued to %d streams\n", everyone.GetId(), everyone.GetRecipients())

	one, err := control.SendToUser(ctx, &pealv1.SendToUserRequest{
		UserId: user,
		Data:   "Hello from Go, just for you",
		Event:  "greeting",
	})
	if err != nil {
		return fmt.Errorf("send to %s: %w", user, err)
	}

	fmt.Fprintf(stdout, "To %s: event %s, queued to %d streams\n", user, one.GetId(), one.GetRecipients())

	users, err := control.ListUsers(ctx, &pealv1.ListUsersRequest{PageSize: 10})
	if err != nil {
		return fmt.Errorf("list users: %w", err)
	}

	for _, u := range users.GetUsers() {
		fmt.Fprintf(stdout, "Connected: %s with %d streams since %s\n",
			u.GetUserId(), u.GetConnections(), u.GetConnectedSince().AsTime().Format(time.RFC3339))
	}

	return nil
}
