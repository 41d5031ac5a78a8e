package testbed

import "go.uber.org/goleak"

// LeftByNATS returns options that ignore goroutines leaked by embedded NATS
// servers. Before it starts routing, one goroutine waits for the client port,
// which is never opened. If a server shuts down before it has connected to
// another one, the store of a group that never ran also leaks goroutines. A
// client that is closed right after its first publish may leak a goroutine that
// waits on a channel.
func LeftByNATS() []goleak.Option {
	const server = "github.com/nats-io/nats-server/v2/server"

	return []goleak.Option{
		goleak.IgnoreAnyFunction(server + ".(*Server).StartRouting"),
		goleak.IgnoreAnyFunction(server + ".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction(server + "/ats.Register.func1"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"),
	}
}
